package tun

// What an interface is called if nobody says; the system adds a number.
const (
	defaultName = "utun"
	openHint    = `names are "utun" and utun0, utun1, ...`
)
