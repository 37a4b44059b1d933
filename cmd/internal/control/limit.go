package control

import (
	"fmt"
	"net"
	"os"
	"sync"
)

// Limits of open connections. One user who opens too many keeps out neither root, nor the
// daemon's own user, nor others.
const (
	maxConns     = 512 // of all users
	maxUserConns = 64  // of one user
)

// owner is who made the other end of a connection.
type owner struct{ uid, pid int }

// unknownUser stands for all users that the system does not tell.
const unknownUser = -1

// String is for the log.
func (o owner) String() string {
	if o.uid == unknownUser {
		return "somebody"
	}
	return fmt.Sprintf("uid %d, pid %d", o.uid, o.pid)
}

// limited is a listener that closes connections beyond the limits at once.
type limited struct {
	net.Listener

	mu    sync.Mutex
	total int
	users map[int]int
}

func newLimited(l net.Listener) *limited {
	return &limited{Listener: l, users: make(map[int]int)}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		o := ownerOf(c)
		if l.admit(o.uid) {
			return &counted{Conn: c, owner: o, done: func() { l.leave(o.uid) }}, nil
		}
		c.Close()
	}
}

// admit counts a connection of a user, and reports whether the limits allow it. They do not
// hold for the daemon's own user and root, who can stop it in any case.
func (l *limited) admit(uid int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	trusted := uid == 0 || uid == os.Geteuid()
	if !trusted && (l.users[uid] >= maxUserConns || l.total >= maxConns) {
		return false
	}
	l.users[uid]++
	l.total++
	return true
}

func (l *limited) leave(uid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.users[uid]--; l.users[uid] == 0 {
		delete(l.users, uid)
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	owner owner
	once  sync.Once
	done  func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(c.done)
	return c.Conn.Close()
}

// CloseWrite ends the direction of writing.
func (c *counted) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}
