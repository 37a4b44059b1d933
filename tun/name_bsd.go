//go:build freebsd || openbsd

package tun

// The name of an interface if none is configured.
const (
	defaultName = "tun"
	openHint    = `names are "tun" and tun0, tun1, ...`
)
