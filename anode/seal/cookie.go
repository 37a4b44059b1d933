package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"time"

	"anodenet/anode"
)

// cookieSecretAge is for how long one secret makes cookies; it checks them for as
// long again.
const cookieSecretAge = 120 * time.Second

// Cookies makes and checks what a HELLO must carry under load: a proof that its
// sender receives at the endpoint it sends from. All it keeps is two secrets:
//
//	cookie = HMAC-SHA256(secret, endpoint | sender address)[:16]
//
// The zero value is ready. It is for one goroutine.
type Cookies struct {
	secret, previous [32]byte
	made             time.Duration // the secret; 0: never
}

// Make returns the cookie for an endpoint, in any form that is always the same for
// it, and an address.
func (c *Cookies) Make(now time.Duration, endpoint []byte, sender anode.Address) [16]byte {
	c.renew(now)
	return cookie(&c.secret, endpoint, sender)
}

// Check reports, in constant time, whether a cookie is one made for endpoint and
// sender in the last 120 to 240 s.
func (c *Cookies) Check(now time.Duration, endpoint []byte, sender anode.Address, b [16]byte) bool {
	c.renew(now)
	current, previous := cookie(&c.secret, endpoint, sender), cookie(&c.previous, endpoint, sender)
	a, p := hmac.Equal(b[:], current[:]), hmac.Equal(b[:], previous[:])
	return a || p
}

// renew replaces secrets that are too old. The first call makes both: nobody may know
// the cookies of a secret of zeros.
func (c *Cookies) renew(now time.Duration) {
	now = max(now, 1)
	age := now - c.made
	if c.made != 0 && age < cookieSecretAge {
		return
	}
	if c.previous = c.secret; c.made == 0 || age >= 2*cookieSecretAge {
		rand.Read(c.previous[:]) // never fails
	}
	rand.Read(c.secret[:])
	c.made = now
}

func cookie(secret *[32]byte, endpoint []byte, sender anode.Address) [16]byte {
	h := hmac.New(sha256.New, secret[:])
	h.Write(endpoint)
	h.Write(sender[:])
	return [16]byte(h.Sum(nil))
}
