//go:build !windows

package dns

// Preferred is the port that a server of names is at unless the configuration has another.
const Preferred = OtherPort
