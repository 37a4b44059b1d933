package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/names"
	"anodenet/info2"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

const (
	joinLook = 250 * time.Millisecond // how often join asks the daemon how it goes
	maxNote  = 140                    // bytes
	maxLink  = 4096                   // bytes of a text that has a link
)

// joinedAnswer is the JSON of join.
type joinedAnswer struct {
	Schema int `json:"schema"`
	control.Joined
	Expires *time.Time `json:"expires"` // of the link; null: not said
}

const joinLong = "Use a link that somebody made by \"anode invite\": anode:ADDRESS/... Both machines have\n" +
	"added each other then.\n\n" +
	"Without LINK, anode asks for it; - reads it from the standard input, file:PATH from a\n" +
	"file. Do not put the link into the command: other users of this machine see it in the\n" +
	"list of processes, and the shell's history and the log of sudo keep it. A line break or\n" +
	"quotes in a pasted link do no harm.\n\n" +
	"The other machine may be asleep. The daemon then keeps trying until the link expires, also\n" +
	"after Ctrl-C; \"anode peers remove PEER\" ends that. If the link was used or revoked, the\n" +
	"other side is asked instead, and decides.\n\n" +
	"Joining lets the other machine reach this one, like \"peers add\". With --ask, it is\n" +
	"let in only when it has let this machine in."

func (a *app) joinCommand() *cobra.Command {
	var r control.JoinRequest
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:               "join [LINK | - | file:PATH]",
		Short:             "Use a link that somebody sent you (see anode invite)",
		Long:              joinLong,
		GroupID:           groupPeople,
		Args:              want(0, math.MaxInt),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&r.As, "as", "", "what the other machine is called here, a `name` (default the one in the link)")
	cmd.Flags().BoolVar(&r.Ask, "ask", false, "ask only, and let nobody in yet")
	cmd.Flags().StringVar(&r.Note, "note", "", "a `text` for the other side, shown if it has to decide")
	cmd.Flags().BoolVar(&r.Mine, "mine", false, "the other machine is yours too: your machines let each other in")
	secondsVar(cmd.Flags(), &timeout, "timeout", "", time.Minute, "how long to watch, a `time` in seconds or as 2m; the daemon goes on")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(checkPetname(r.As), checkNote(cmd, r.Note)); err != nil {
			return err
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Status(cmd.Context()) // before anybody pastes a link in vain
		if err != nil {
			return err
		}
		link, err := a.readLink(cmd.Context(), cmd.InOrStdin(), args)
		if err != nil {
			return err
		}
		if err := a.mayJoin(status, link, r.As); err != nil {
			return err
		}
		r.Link = link.String()
		j := joining{app: a, client: client, request: r, link: link, status: status, suffix: suffixOf(cmd.Context(), client)}
		return j.run(cmd.Context(), timeout, *asJSON)
	}
	return cmd
}

// suffixOf returns the domain of host names. A daemon of an older version has the usual one.
func suffixOf(ctx context.Context, client *control.Client) string {
	v, err := client.Names(ctx)
	if err != nil {
		return names.Suffix
	}
	return v.Suffix
}

func checkNote(cmd *cobra.Command, note string) error {
	if n := len(note); n > maxNote {
		return usage(cmd, "--note: %d bytes are too many: at most %d", n, maxNote)
	}
	return nil
}

// readLink reads the link that the arguments give or name. A link that a blank has broken is
// several arguments.
func (a *app) readLink(ctx context.Context, in io.Reader, args []string) (invite.Link, error) {
	text := strings.TrimSpace(strings.Join(args, " "))
	if text == "" || text == "-" {
		return a.readLines(ctx, in, isTerminal(in))
	}
	path, file := strings.CutPrefix(text, "file:")
	switch {
	case !file:
		link, err := invite.Parse(text)
		if err == nil && !link.Card() && isTerminal(in) {
			fmt.Fprintln(a.err, linkInCommand)
		}
		return link, linkError(text, err)
	case path == "":
		return invite.Link{}, &failure{exitUsage, "file: has no path", "anode join file:PATH"}
	}
	f, err := os.Open(path)
	if err != nil {
		return invite.Link{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLink+1)) // one more: it is too long
	if err != nil {
		return invite.Link{}, err
	}
	return a.readLines(ctx, bytes.NewReader(b), false)
}

// linkInCommand warns of a link that is an argument.
const linkInCommand = "warning: other users see this link in the list of processes, and the shell and sudo\nkeep it\ntry: next time, anode join without it, which asks for the link"

// pasteWait is how long the rest of a pasted text may take before people are asked for it.
const pasteWait = 300 * time.Millisecond

// readLines reads lines until they are a link, or until an empty line. With asks, people are told
// what is waited for.
func (a *app) readLines(ctx context.Context, in io.Reader, asks bool) (invite.Link, error) {
	ask := func(text string) {
		if asks {
			fmt.Fprint(a.err, text)
		}
	}
	ask("Paste the link and press Enter: ")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := linesOf(ctx, in)
	patience := time.NewTimer(pasteWait)
	defer patience.Stop()
	pasting := true // what comes at once: in a letter, the link is behind some lines
	blank := false  // somebody pressed Enter, and there is nothing yet
	for text := ""; ; {
		select {
		case <-ctx.Done():
			ask("\n")
			return invite.Link{}, ctx.Err()
		case <-patience.C:
			l, err := invite.Parse(text)
			switch {
			case text == "":
				if blank {
					blank = false
					ask("Paste the link and press Enter, or stop by Ctrl-C: ")
				}
			case err == nil && !bareAddress(l), errors.Is(err, invite.ErrSeveral):
				return l, linkError(text, err)
			default:
				pasting = false
				ask("The link is not complete. Paste the rest, or press Enter to stop: ")
			}
		case line, more := <-lines:
			if more && line == "" && (!asks || text == "" || pasting && !hasScheme(text)) {
				if blank = text == ""; blank {
					patience.Reset(pasteWait)
				}
				continue
			}
			if !more {
				ask("\n") // Ctrl-D leaves the cursor behind the question
			}
			if !more || line == "" {
				l, err := invite.Parse(text)
				return l, linkError(text, err)
			}
			text += line + "\n"
			patience.Reset(pasteWait) // there may be another link in what is pasted
		}
	}
}

// bareAddress reports whether a link says no more than an address: the rest may be in the next
// line.
func bareAddress(l invite.Link) bool {
	return l.Card() && l.Expires.IsZero() && l.Name == "" && len(l.Endpoints)+len(l.Relays) == 0
}

// hasScheme reports whether a link may have begun in a text.
func hasScheme(text string) bool { return strings.Contains(strings.ToLower(text), "anode:") }

// linkError says why a text is no link, and what to do.
func linkError(text string, err error) error {
	const again = "copy the whole line again, from \"anode:\" to its end"
	address, bare := anode.ParseAddress(strings.TrimSpace(text))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, invite.ErrLong) && len(text) > maxLink:
		return &failure{exitUsage, fmt.Sprintf("the text around the link is too long: at most %d characters", maxLink), "the link alone"}
	case errors.Is(err, invite.ErrLong):
		return &failure{exitUsage, "the link is longer than this version of anode can read", "anode version on both machines, and update the older one"}
	case errors.Is(err, anode.ErrTypo):
		return &failure{exitUsage, "the link has a wrong character, or one too many or too few", again}
	case errors.Is(err, invite.ErrSeveral):
		return &failure{exitUsage, "the text has links to two machines", "paste one of them"}
	case errors.Is(err, invite.ErrCut):
		return &failure{exitUsage, "the link is cut off: its end is missing", again}
	case strings.TrimSpace(text) == "", text == "LINK":
		return &failure{exitUsage, "there is no link", "anode join, and paste the link; \"anode invite\" on the other machine makes one"}
	case bare == nil:
		return &failure{exitUsage, "that is an address and not a link, so it lets nobody in", "anode peers ask " + address.String()}
	case strings.HasPrefix(text, "http://"), strings.HasPrefix(text, "https://"):
		return &failure{exitUsage, "that is the address of a web page and not a link of Anode, which begins with \"anode:\"", "\"anode invite\" on the other machine makes one"}
	case isFile(text):
		return &failure{exitUsage, "that is a file and not a link", "anode join file:" + text}
	}
	return &failure{exitUsage, "not a link: it begins with \"anode:\"", "\"anode invite\" on the other machine makes one"}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// mayJoin returns why a link cannot be used here.
func (a *app) mayJoin(status overlay.Status, l invite.Link, as string) error {
	name := cmp.Or(as, l.Name)
	if l.Address.X() == status.Address.X() {
		return &failure{exitUsage, "that is your own link: it is for another machine", "send it to the person you want to let in"}
	}
	if l.Expired(a.now()) {
		now := a.now().Format("2 Jan 2006 15:04")
		return &failure{exitFailed, fmt.Sprintf("the link has expired: it was good until %s, and the clock of this machine says %s", l.Expires.In(a.now().Location()).Format("2 Jan 2006 15:04"), now),
			"ask for a new one; if the clock is wrong here or there, set it first"}
	}
	var taken []string
	for _, p := range status.Peers {
		switch {
		case p.Address.X() == l.Address.X() && p.Blocked:
			return &failure{exitFailed, labelOf(cmp.Or(p.Name, l.Name), p.ID) + " is blocked here", "anode peers unblock " + cmp.Or(p.Name, p.ID.String())}
		case p.Address != l.Address && (p.Allowed || p.Blocked):
			taken = append(taken, p.Name)
		}
	}
	if free := freeName(name, taken); free != name {
		return takenError(name, "the same command with --as "+free)
	}
	return nil
}

// freeName returns a name, or if it is one of those of others, the one with a number that the daemon would take.
func freeName(name string, taken []string) string {
	if !slices.Contains(taken, name) {
		return name
	}
	return book.FreeName(name, func(free string) bool { return !slices.Contains(taken, free) })
}

// takenError says that another peer has a name. try is the command with one that is free.
func takenError(name, try string) error {
	return &failure{exitFailed, fmt.Sprintf("you have another peer named %q", name), try}
}

// joining is a join that is watched.
type joining struct {
	app     *app
	client  *control.Client
	request control.JoinRequest
	link    invite.Link
	status  overlay.Status
	suffix  string         // of host names
	last    control.Joined // what the daemon said last
}

// run uses the link, and returns when it is clear what came of it, or when nobody wants to watch
// any more. The daemon goes on.
func (j *joining) run(ctx context.Context, timeout time.Duration, asJSON bool) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	show := j.app.newProgress(asJSON)
	err := j.watch(limited, show)
	show.end()
	if err != nil && limited.Err() == nil {
		return err
	}
	if j.last.Address.IsZero() {
		j.look(ctx)
	}
	if asJSON && !j.last.Address.IsZero() {
		if err := j.app.json(j.answer()); err != nil {
			return err
		}
		if f := j.result(ctx.Err() != nil); f != nil {
			return &failure{exit: f.exit}
		}
		return nil
	}
	if f := j.result(ctx.Err() != nil); f != nil {
		return f
	}
	for _, line := range j.words(ctx) {
		fmt.Fprintln(j.app.out, line)
	}
	j.app.noteUnusual(ctx, j.client, j.last.Name, func(near string) string { return "anode peers rename " + j.last.Name + " " + near })
	return nil
}

// watch asks the daemon how the join goes, until it is over or ctx ends.
func (j *joining) watch(ctx context.Context, show *progress) error {
	start := j.app.now()
	look := time.NewTicker(joinLook)
	defer look.Stop()
	for {
		joined, err := j.ask(ctx, look.C, func() {
			show.line(fmt.Sprintf("waiting for %s, %s (Ctrl-C: goes on in background)", j.label(), shortAge(j.app.now().Sub(start))))
		})
		if err != nil {
			return err
		}
		if j.last = joined; joined.State != control.JoinTrying || joined.Why != "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
}

// ask asks the daemon once, which takes seconds if it does not know yet. Meanwhile each tick shows how long it has taken.
func (j *joining) ask(ctx context.Context, tick <-chan time.Time, show func()) (joined control.Joined, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		joined, err = j.client.Join(ctx, j.request)
	}()
	for {
		show()
		select {
		case <-done:
			return joined, err
		case <-tick:
		}
	}
}

// look finds out how a join goes that nobody watches long enough for an answer. The daemon has it.
func (j *joining) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	s, err := j.client.Status(ctx)
	if err != nil {
		return
	}
	for _, p := range s.Peers {
		if p.Address.X() == j.link.Address.X() {
			j.last = control.Joined{Address: p.Address, Name: p.Name, State: control.JoinTrying}
		}
	}
}

func (j *joining) label() string {
	name := cmp.Or(j.last.Name, j.request.As, j.link.Name)
	return labelOf(name, j.link.Address.ID())
}

// peer is what the issuer is called in commands.
func (j *joining) peer() string { return cmp.Or(j.last.Name, j.link.Address.ID().String()) }

func (j *joining) answer() joinedAnswer {
	x := joinedAnswer{Schema: schema, Joined: j.last}
	if e := j.link.Expires; !e.IsZero() {
		x.Expires = &e
	}
	return x
}

// result is the failure of a join that let nobody in, or not yet; nil: it did what was asked.
func (j *joining) result(interrupted bool) *failure {
	why := info2.Clean(j.last.Why)
	switch j.last.State {
	case control.JoinDone:
		return nil
	case control.JoinAsked:
		if j.request.Ask || j.link.Card() {
			return nil
		}
		return &failure{exitFailed, fmt.Sprintf("%s did not let you in: %s\nit is asked now, and somebody there decides", j.label(), cmp.Or(why, "the link is over")),
			cmp.Or(j.last.Try, "ask for a new link; anode peers list shows whether you are let in")}
	case control.JoinDead:
		return &failure{exitFailed, fmt.Sprintf("%s did not let you in: %s", j.label(), cmp.Or(why, "the link is over: expired, used or revoked")), cmp.Or(j.last.Try, "ask for a new link")}
	}
	f := &failure{exitUnreachable, j.label() + " does not answer yet", "anode peers list shows whether it did; to stop: anode peers remove " + j.peer()}
	if interrupted {
		f.exit = exitFailed
	}
	if why != "" {
		f.message, f.try = j.label()+" cannot be joined yet: "+why, cmp.Or(j.last.Try, f.try)
	}
	f.message += "\nthis machine goes on trying in the background" + j.until()
	return f
}

func (j *joining) until() string {
	if j.link.Expires.IsZero() {
		return ""
	}
	return " until " + j.app.dayTime(j.link.Expires)
}

// words is what came of a join, and what to do next.
func (j *joining) words(ctx context.Context) []string {
	if j.last.State == control.JoinAsked {
		lines := []string{fmt.Sprintf("asked %s; somebody there decides", j.label())}
		if !j.request.Ask {
			lines[0] = "this link is a business card and lets nobody in by itself: " + lines[0]
		}
		return append(lines, "to see whether you are let in: anode peers list")
	}
	first := j.label() + " lets you in"
	if own := saidName(j.last.Own); own != "" {
		first += " as " + own
	}
	lines := []string{first + "."}
	if as := j.request.As; as != "" && j.last.Name != "" && j.last.Name != as {
		lines = append(lines, fmt.Sprintf("It was added here before, and keeps its name; to change it: anode peers rename %s %s", j.last.Name, as))
	}
	return append(lines, "next: "+j.next(ctx))
}

// saidName is a name that somebody else chose, if it is a name.
func saidName(name string) string {
	if book.CheckName(name) != nil {
		return ""
	}
	return name
}

// next is the command to try first. It names the peer as the system knows it only if the system asks
// the daemon: else a name server outside would be told the name, and would know nothing.
func (j *joining) next(ctx context.Context) string {
	names, err := j.client.Names(ctx)
	switch {
	case j.status.Tun == nil, j.last.Name != "" && err == nil && !names.Resolver.Applied:
		return "anode ping " + j.peer()
	case j.last.Name == "":
		return "ping " + j.link.Address.ULA().String()
	}
	return "ping " + j.last.Name + "." + j.suffix + ", or anode ping " + j.last.Name
}

// progress is a line on a terminal that says what is waited for.
type progress struct {
	to    io.Writer  // nil: nobody looks
	width func() int // columns of the terminal now, less one: a line that wraps cannot be replaced
	shown string     // the line that is there
}

// newProgress returns a line on the standard error, if that is a terminal.
func (a *app) newProgress(quiet bool) *progress {
	f, ok := a.err.(interface{ Fd() uintptr })
	if quiet || !ok || !isTerminal(a.err) {
		return &progress{}
	}
	return &progress{to: a.err, width: func() int {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns - 1
		}
		return usualWidth - 1
	}}
}

// line replaces the line, if the text is another one.
func (p *progress) line(text string) {
	if p.to == nil {
		return
	}
	width := p.width()
	if text = cut(text, width); text == p.shown {
		return
	}
	blank := min(utf8.RuneCountInString(p.shown), width) - utf8.RuneCountInString(text)
	fmt.Fprint(p.to, "\r"+text+strings.Repeat(" ", max(0, blank)))
	p.shown = text
}

// end removes it.
func (p *progress) end() {
	if p.to != nil && p.shown != "" {
		const echo = len("^C") // of a terminal
		fmt.Fprint(p.to, "\r"+strings.Repeat(" ", max(0, min(utf8.RuneCountInString(p.shown)+echo, p.width())))+"\r")
	}
}
