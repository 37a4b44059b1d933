package tun

// What an interface is called if nobody says.
const (
	defaultName = "anode"
	openHint    = "wintun.dll must lie beside the program; run as administrator"
)
