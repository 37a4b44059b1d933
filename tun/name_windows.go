package tun

// The name of an interface if none is configured.
const (
	defaultName = "anode"
	openHint    = "put wintun.dll beside the program, and run as administrator"
)
