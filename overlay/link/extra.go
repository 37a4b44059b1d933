package link

// Extra is a Network that can open a cheap socket for a few packets, on a port that the system
// chooses.
type Extra interface {
	ListenExtra() (Conn, error)
}

// ListenExtra opens a second socket of a network beside that of its node, as cheap as it can.
func ListenExtra(n Network) (Conn, error) {
	if x, ok := n.(Extra); ok {
		return x.ListenExtra()
	}
	return n.Listen(0)
}
