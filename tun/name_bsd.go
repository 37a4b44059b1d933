//go:build freebsd || openbsd

package tun

// What an interface is called if nobody says.
const (
	defaultName = "tun"
	openHint    = `names are "tun" and tun0, tun1, ...`
)
