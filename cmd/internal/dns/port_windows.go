package dns

// Preferred is the port that a server of names is at unless the configuration has another: the rules of
// Windows' resolver hold no port.
const Preferred = Port
