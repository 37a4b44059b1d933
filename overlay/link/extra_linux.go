package link

// ListenExtra implements Extra: the socket has the plainest rung, and no self-test.
func (s *System) ListenExtra() (Conn, error) {
	c, err := s.listenAs(0, RungPlain, false)
	if err != nil {
		return nil, err
	}
	return c, nil
}
