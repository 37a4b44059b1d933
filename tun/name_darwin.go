package tun

// The name of an interface if none is configured; the system adds a number.
const (
	defaultName = "utun"
	openHint    = `names are "utun" and utun0, utun1, ...`
)
