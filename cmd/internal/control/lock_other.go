//go:build !unix

package control

// lockDir does nothing: the system refuses a second listener by itself.
func lockDir(string) (unlock func(), err error) { return func() {}, nil }
