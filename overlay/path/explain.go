package path

// unansweredFrom is how many requests without an answer say something.
const unansweredFrom = 3

// Doubted reports whether the way works, and has just left requests unanswered.
func (i *Info) Doubted() bool { return i.silent() }

// Unanswered reports whether nothing comes back on a way: its last check failed, or the present
// one has got no answer to several requests.
func (i *Info) Unanswered() bool {
	return i.State != Confirmed && (i.State == Failed || i.rest > 0 || len(i.check.asked) >= unansweredFrom)
}
