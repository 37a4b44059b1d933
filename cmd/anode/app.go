package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/names"
	"anodenet/platform"
)

// schema is the version of all printed JSON.
const schema = 1

// app is one run of the program: its output, what it takes from outside, and the
// flags that all verbs have.
type app struct {
	out, err io.Writer
	terminal bool // whether out is a terminal
	color    bool
	now      func() time.Time
	txt      func(ctx context.Context, name string) ([]string, error) // DNS TXT records

	state, socket, config string
	stateGiven            bool // whether a flag or ANODE_STATE named it
	socketGiven           bool
	configGiven           bool
	own                   platform.Directories // of a node of this user's; empty: there is none

	flush     func()       // writes out what waits for a reader (decouple)
	unwritten func() error // why output was lost; nil: it was not
	hurry     func()       // called when the program is to end
}

func newApp(out, err io.Writer) *app {
	a := &app{out: out, err: err, now: time.Now, txt: net.DefaultResolver.LookupTXT, flush: func() {}, unwritten: func() error { return nil }, hurry: func() {}}
	if f, ok := out.(*os.File); ok {
		a.terminal = term.IsTerminal(int(f.Fd()))
		kept := &checkedFile{File: f}
		a.out, a.unwritten = kept, kept.failure
	}
	a.color = a.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	usual := platform.DefaultDirectories()
	a.state, a.stateGiven = given("ANODE_STATE", usual.State)
	a.socket, a.socketGiven = given("ANODE_SOCKET", usual.Socket)
	a.config, a.configGiven = given("ANODE_CONFIG", usual.Config)
	return a
}

// given returns the value of a variable, or what is usual if it is not set or empty.
func given(variable, usual string) (path string, set bool) {
	if path = os.Getenv(variable); path != "" {
		return path, true
	}
	return usual, false
}

// checkedFile is a file for output that keeps the first error of a write, so that the verbs
// need not look at each line that they print: a script must not take half a list for a whole.
type checkedFile struct {
	*os.File
	mu    sync.Mutex
	first error
}

func (f *checkedFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.first = cmp.Or(f.first, err)
	}
	return n, err
}

// WriteString hides the file's, which would pass by Write.
func (f *checkedFile) WriteString(s string) (int, error) { return f.Write([]byte(s)) }

func (f *checkedFile) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil {
		return nil
	}
	return fmt.Errorf("the output could not be written: %w", f.first)
}

// run runs one command line and returns its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	defer func() { a.flush() }() // a command may set it
	root := a.root(args...)
	root.SetArgs(args)
	plainUsage(root, args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = a.unwritten()
	}
	if err == nil {
		return exitOK
	}
	f := explain(err)
	for line := range strings.Lines(f.message) {
		fmt.Fprintf(a.err, "anode: %s\n", strings.TrimSuffix(line, "\n"))
	}
	if f.try != "" {
		fmt.Fprintf(a.err, "try: %s\n", f.try)
	}
	return f.exit
}

// root makes the command of the program, with the verbs that a command line with these
// arguments may be for.
func (a *app) root(args ...string) *cobra.Command {
	root := &cobra.Command{
		Use:   "anode",
		Short: "A flat, encrypted network of the machines that you choose",
		Long: "A flat, encrypted network of the machines that you choose.\n\n" +
			"PEER is a name, an address, a ULA, a short ID, the beginning of one of these,\n" +
			"or a DNS name with a TXT record anode:ADDRESS; self is this machine.\n\n" +
			"For a user without root, \"anode up --tun none\" makes ~/.local/state/anode, which has the\n" +
			"socket too, and other commands find it there.\n\n" +
			"Exit codes: 0 success, 1 failure, 2 wrong usage, 3 no daemon, 4 unknown peer\n" +
			"(or request, invitation, name), 5 unreachable.",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			a.stateGiven = a.stateGiven || cmd.Flags().Changed("state")
			a.socketGiven = a.socketGiven || cmd.Flags().Changed("socket")
			a.configGiven = a.configGiven || cmd.Flags().Changed("config")
			a.settle(thisLogin())
		},
	}
	root.SetUsageFunc(usageText)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().StringVar(&a.state, "state", a.state, "`directory` of identity and peers, or ANODE_STATE; none: a new address, nothing is kept")
	root.PersistentFlags().StringVar(&a.socket, "socket", a.socket, "the daemon's control `socket`, or ANODE_SOCKET")
	root.PersistentFlags().StringVar(&a.config, "config", a.config, "configuration `file`, or ANODE_CONFIG; one that is named must be there")
	root.AddGroup(
		&cobra.Group{ID: groupLife, Title: "Running it:"},
		&cobra.Group{ID: groupPeople, Title: "You and your peers:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	root.AddCommand(a.verbs(args)...)
	a.start(group(root))
	versionFlag(root, a.out)
	strictDefaults(root)
	foldHelp(root)
	return root
}

// verbs returns all verbs, except for a command line that runs a node. Its process lasts for
// months, and the code of verbs that it only makes would stay in its memory.
func (a *app) verbs(args []string) []*cobra.Command {
	if len(args) > 0 {
		switch args[0] {
		case "up":
			return []*cobra.Command{a.upCommand()}
		case "daemon":
			return []*cobra.Command{a.daemonCommand()}
		}
	}
	return []*cobra.Command{
		a.upCommand(), a.daemonCommand(), a.downCommand(), a.cleanupCommand(),
		a.statusCommand(), a.idCommand(), a.ipCommand(),
		a.inviteCommand(), a.joinCommand(), a.peersCommand(), a.whoisCommand(), a.pingCommand(), a.waitCommand(), a.whyCommand(), a.traceCommand(),
		a.sendCommand(), a.recvCommand(), a.ncCommand(), a.forwardCommand(), a.exposeCommand(), a.lanCommand(), a.gamesCommand(), a.dnsCommand(),
		a.sayCommand(), a.chatCommand(), a.info2Command(),
		a.zoneCommand(), a.configCommand(), a.doctorCommand(), a.netcheckCommand(), a.versionCommand(), a.manCommand(),
	}
}

// foldHelp has the help of each verb folded when it is printed: most runs print none.
func foldHelp(root *cobra.Command) {
	print := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		cmd.Long = folded(cmd.Long)
		print(cmd, args)
	})
}

// folded breaks the paragraphs of a help text that are wider than usual terminals. Lines
// that begin with a blank or tab are examples, and stay as they are.
func folded(long string) string {
	paragraphs := strings.Split(long, "\n\n")
	for i, text := range paragraphs {
		lines := strings.Split(text, "\n")
		wide := func(line string) bool { return utf8.RuneCountInString(line) > usualWidth }
		example := func(line string) bool { return strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") }
		if slices.ContainsFunc(lines, wide) && !slices.ContainsFunc(lines, example) {
			paragraphs[i] = strings.Join(fold(strings.Join(lines, " "), usualWidth), "\n")
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// strictDefaults makes wrong arguments of the verbs that the library adds errors like
// those of ours.
func strictDefaults(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Run, cmd.RunE = nil, help
			topicHelp(cmd)
		case "completion":
			group(cmd)
			for _, shell := range cmd.Commands() {
				shell.Args = want(0, 0)
			}
		}
	}
}

// help shows a topic or the help of a verb, or says that there is no such verb.
func help(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		if t, ok := findTopic(args[0]); ok {
			_, err := fmt.Fprint(cmd.OutOrStdout(), t.text)
			return err
		}
	}
	about, rest, err := cmd.Root().Find(args)
	if err != nil || about == nil || len(rest) > 0 {
		if about == nil {
			about, rest = cmd.Root(), args
		}
		return unknownVerb(about, rest[0])
	}
	about.InitDefaultHelpFlag()
	return about.Help()
}

// The groups of the help page.
const (
	groupLife   = "life"
	groupPeople = "people"
	groupOther  = "other"
)

// group makes a command that only holds others. Alone it shows its help; an unknown verb
// is an error that names the nearest one.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownVerb(cmd, args[0])
	}
	return cmd
}

// unknownVerb is the error of a verb that a command does not have.
func unknownVerb(cmd *cobra.Command, verb string) error {
	err := &failure{exitUsage, fmt.Sprintf("unknown command %q", cmd.CommandPath()+" "+verb), cmd.CommandPath() + " --help"}
	var verbs []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			verbs = append(verbs, c.Name())
		}
	}
	if !cmd.HasParent() {
		for _, t := range topics() {
			verbs = append(verbs, t.name)
		}
	}
	near := names.Nearest(verb, verbs)
	if near == "" {
		return err
	}
	err.try = cmd.CommandPath() + " " + near
	if known, _, e := cmd.Find([]string{near}); e != nil || known == cmd {
		err.try = cmd.CommandPath() + " help " + near
	}
	return err
}

// source returns where this command line takes its configuration from.
func (a *app) source() config.Source {
	return config.Source{File: a.config, Maybe: !a.configGiven, Env: os.Environ()}
}

// want checks the number of arguments.
func want(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < low:
			return usage(cmd, "missing argument: %s", cmd.UseLine())
		case len(args) > high:
			return usage(cmd, "unexpected argument %q: %s", args[high], cmd.UseLine())
		}
		return nil
	}
}

// json prints a value.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// jsonFlag adds --json.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}
