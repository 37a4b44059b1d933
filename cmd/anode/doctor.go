package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// verdict is the result of one check.
type verdict string

const (
	fine verdict = "fine"
	slow verdict = "slow" // works, and could be faster
	warn verdict = "warn" // works, and may surprise people
	bad  verdict = "bad"  // does not work
)

// finding is one thing that doctor found.
type finding struct {
	Check   string  `json:"check"` // what was looked at
	Verdict verdict `json:"verdict"`
	Says    string  `json:"says"`
	Try     string  `json:"try,omitempty"`
	Code    string  `json:"code"` // the kind of finding, for scripts; it stays the same when the words change
}

// doctorAnswer is the JSON of doctor.
type doctorAnswer struct {
	Schema   int       `json:"schema"`
	Findings []finding `json:"findings"`
}

// check is one theme that doctor looks at.
type check struct {
	topic string
	run   func(ctx context.Context, p *patient) []finding
}

// checks is everything that doctor looks at, in the order of its JSON.
func checks() []check {
	return []check{
		{"daemon", checkDaemon},
		{"config", checkConfig},
		{"rights", checkRights},
		{"tun", checkDevice},
		{"adapter", checkAdapter},
		{"ipv6", checkIPv6},
		{"port", checkPort},
		{"identity", keptBy(checkIdentity)},
		{"state", keptBy(checkState)},
		{"secret", checkSecret},
		{"socket", checkSocket},
		{"firewall", checkFirewall},
		{"internet", checkInternet},
		{"lan", checkLAN},
		{"beacons", checkBeacons},
		{"clock", checkClock},
		{"settings", checkSettings},
		{"zone", checkZone},
		{"names", checkNames},
		{"packets", checkPackets},
		{"queues", checkQueues},
		{"transports", checkTransports},
		{"machines", checkMachines},
		{"routes", checkRoutes},
		{"reach", checkReach},
		{"peers", checkPeers},
	}
}

// checkLimit is how long one check may take, and how long the daemon may take to answer.
const checkLimit = 2 * time.Second

// patient is what the checks look at: this machine, and a daemon if one answers.
type patient struct {
	machine    machine
	client     *control.Client
	state      string // directory
	socket     string
	config     config.Config // the default one if it cannot be read
	configFile string
	configErr  error
	version    string // of this program
	built      time.Time
	now        time.Time
	status     *overlay.Status // nil: no daemon answered
	statusErr  error           // why
	holder     holder          // who listens on the socket
	elsewhere  bool            // the daemon is in another network namespace
}

// running reports whether there is a daemon, even one that does not answer.
func (p *patient) running() bool {
	return p.status != nil || !errors.Is(p.statusErr, control.ErrNoDaemon)
}

// port is the UDP port of the daemon, or the one that it would use; 0: any.
func (p *patient) port() uint16 {
	if p.status != nil {
		return portOf(p.status.Listen)
	}
	return p.config.Listen.Port
}

// adapter is the name of the adapter that the daemon has, or would make; "none": none.
func (p *patient) adapter() string {
	switch {
	case p.status == nil:
		return p.config.Tun.Name
	case p.status.Tun == nil:
		return config.NoTun
	}
	return p.status.Tun.Name
}

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Report what is wrong or slow, and what to do about it",
		Long: "Look at this machine, the daemon and the peers, and report what is wrong or slow, and\n" +
			"what to do about it. It works without a daemon too. Root sees most.\n\n" +
			"Verdicts: fine; slow (works, and could be faster); warn (works, and may surprise you);\n" +
			"bad (does not work). If something is not fine, all that is fine is on one line.\n\n" +
			"Exit code: 1 if something is bad, else 3 if no daemon runs, else 0.",
		GroupID: groupOther,
		Args:    want(0, 0),
	}
	asJSON := jsonFlag(cmd)
	all := cmd.Flags().Bool("all", false, "show each thing that is fine too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p := a.patient(cmd.Context(), newMachineFacts())
		defer p.client.Close()
		findings := examine(cmd.Context(), p, checks(), checkLimit)
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		if *asJSON {
			if err := a.json(doctorAnswer{schema, findings}); err != nil {
				return err
			}
		} else {
			a.printFindings(findings, *all)
		}
		return verdictOf(findings, p)
	}
	return cmd
}

// patient gathers what all checks need.
func (a *app) patient(ctx context.Context, m machine) *patient {
	p := &patient{
		machine: m, client: control.NewClient(a.socket), state: a.state, socket: a.socket,
		configFile: a.config, version: version(), built: builtAt(), now: a.now(),
	}
	p.config, p.configErr = loadWithin(a.source(), checkLimit)
	answer, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	status, err := p.client.Status(answer)
	if p.statusErr = err; err == nil {
		p.status = &status
	}
	if p.running() {
		p.holder = m.holder(ctx, a.socket)
		p.elsewhere = p.holder.elsewhere
	}
	return p
}

// loadWithin reads the configuration, which may be a file on a drive that hangs. It
// returns the defaults with an error.
func loadWithin(source config.Source, limit time.Duration) (config.Config, error) {
	type loaded struct {
		config config.Config
		err    error
	}
	result := make(chan loaded, 1)
	go func() {
		c, err := source.Load()
		result <- loaded{c, err}
	}()
	select {
	case l := <-result:
		if l.err != nil {
			l.config = config.Default()
		}
		return l.config, l.err
	case <-time.After(limit):
		return config.Default(), fmt.Errorf("%s: it could not be read within %v; try: another file, if it is not a regular one or on a network drive", source.File, limit)
	}
}

// examine runs the checks, all at once, and returns their findings in the order of the
// list. A check that has not ended at the limit is a finding, and its goroutine is left
// behind: a system call that hangs, such as one for a file on a dead network drive,
// cannot be ended, and the program ends soon.
func examine(ctx context.Context, p *patient, list []check, limit time.Duration) []finding {
	grace, stop := context.WithTimeout(ctx, limit+limit/4)
	defer stop()
	ctx, cancel := context.WithTimeout(grace, limit)
	defer cancel()
	results := make([]chan []finding, len(list)) // each has room for its check's result
	for i, c := range list {
		results[i] = make(chan []finding, 1)
		go func() { results[i] <- c.run(ctx, p) }()
	}
	var all []finding
	for i, c := range list {
		all = append(all, await(grace, results[i], finding{c.topic, warn, fmt.Sprintf("not checked: the system did not answer within %v", limit),
			"anode doctor again; a disk, a network drive or the kernel may hang", "check_timeout"})...)
	}
	return all
}

// await returns the findings of a check, or late if there are none before ctx ends.
func await(ctx context.Context, result <-chan []finding, late finding) []finding {
	select {
	case found := <-result:
		return found
	case <-ctx.Done():
	}
	select {
	case found := <-result: // both were ready
		return found
	default:
		return []finding{late}
	}
}

// verdictOf returns the failure whose exit code sums up the findings, which are printed
// already; nil if all is well enough.
func verdictOf(findings []finding, p *patient) error {
	for _, f := range findings {
		if f.Verdict == bad {
			return &failure{exit: exitFailed}
		}
	}
	if errors.Is(p.statusErr, control.ErrNoDaemon) {
		return &failure{exit: exitNoDaemon}
	}
	return nil
}
