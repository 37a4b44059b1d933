package overlay

import (
	"context"

	"anodenet/overlay/book"
)

// Commit makes an edit of the book in one transaction, and has the loop do what follows. An error
// says that nothing was written.
func (n *Node) Commit(ctx context.Context, e book.Edit) (book.Change, error) {
	change, err := n.book.Commit(e, n.cfg.Clock.Now())
	if err != nil || change.Nothing() {
		return change, err
	}
	_ = n.call(ctx, func(l *loop) error { // it fails when the node ends, and the next one reads the book
		l.follow(change)
		l.lan.publish()
		return nil
	})
	return change, nil
}
