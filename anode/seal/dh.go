package seal

import "crypto/ecdh"

// newScalar makes a private key of 32 bytes.
func newScalar(b []byte) (*ecdh.PrivateKey, error) { return ecdh.P256().NewPrivateKey(b) }
