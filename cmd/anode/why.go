package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/platform"
)

// Limits of why.
const (
	whyFind  = 5 * time.Second // to find the peer, perhaps in DNS
	whyPing  = 5 * time.Second // for the reply to a ping
	whyPings = 5               // at most, while none is answered
	whyOpen  = 4 * time.Second // for an attempt to open a direct path to end
	whyLook  = 200 * time.Millisecond
)

// whyAnswer is the JSON of why.
type whyAnswer struct {
	Schema    int                `json:"schema"`
	Reachable bool               `json:"reachable"` // by programs, not only by pings
	Says      string             `json:"says"`
	Try       string             `json:"try,omitempty"`
	Code      string             `json:"code"`      // "up", or why the peer cannot be reached
	PathCode  overlay.Reason     `json:"path_code"` // why the path is not a better one; empty: nothing is known against it
	PathSays  string             `json:"path_says,omitempty"`
	PathTry   string             `json:"path_try,omitempty"`
	Notes     []advice           `json:"notes"` // what else would help
	Ping      whyPinged          `json:"ping"`
	Route     *whyRoute          `json:"route"`     // null: not known, or there is no adapter
	Endpoints *control.Endpoints `json:"endpoints"` // where the peer may be found; null: not known
	Peer      overlay.PeerStatus `json:"peer"`
}

// whyPinged is what became of a ping.
type whyPinged struct {
	RTT   *float64            `json:"rtt_ms"` // null: no reply
	Path  *overlay.PathStatus `json:"path"`   // of the reply; null: none
	Error string              `json:"error,omitempty"`

	reason overlay.Reason // why there is none; empty: not known
}

// whyRoute is where the kernel sends what programs send to the peer.
type whyRoute struct {
	Interface string   `json:"interface"` // empty: there is no route
	Adapter   string   `json:"adapter"`   // where it should go
	Covering  []string `json:"covering"`  // networks of other interfaces that contain the peer's address
}

func (a *app) whyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why PEER",
		Short: "Explain by which path a peer can be reached, or why not",
		Long: "Explain whether a peer can be reached, by which path, and if not, why and what to do.\n" +
			"If the path leads through a relay: why there is no direct one. It sends pings until one\nis answered, five at most.\n\n" +
			"Exit code: 0 if programs can reach the peer, 5 if not, 4 if there is no such peer.\n\n" +
			"Codes in \"code\" of --json, beside up, unreachable, asked, no_adapter,\nroute_stolen, route_missing and route_local:\n" + codesHelp(peerReasons()) +
			"\nCodes in \"path_code\", why the path is not a better one:\n" + codesHelp(pathReasons()) +
			"\nCodes of notes about zone files, as in doctor: zone_unreachable, zone_no_file, zone_stale,\nzone_no_relay, zone_peer.\nThe code of the note on a path by TCP or HTTP: not_udp.\n",
		GroupID:           groupPeople,
		Args:              want(1, 1),
		ValidArgsFunction: a.completePeer(0),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		w, status, err := a.why(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			err = a.json(w)
		} else {
			a.printWhy(w, namesOf(status.Peers))
		}
		if err == nil && !w.Reachable {
			err = &failure{exit: exitUnreachable}
		}
		return err
	}
	return cmd
}

// why finds a peer, pings it, and gathers what is known of it then.
func (a *app) why(ctx context.Context, text string) (w whyAnswer, s overlay.Status, err error) {
	client := control.NewClient(a.socket)
	defer client.Close()
	finding, cancel := context.WithTimeout(ctx, whyFind)
	defer cancel()
	found, err := a.find(finding, clientBook{client}, text)
	switch {
	case err != nil:
		return w, s, silence(finding, err)
	case found.Self:
		return w, s, &failure{exitFailed, "that is this machine itself, which needs no path", "anode doctor"}
	}
	ping := pingUntil(ctx, client, found.Address)
	if s, err = settled(ctx, client, found.Address); err != nil {
		return w, s, err
	}
	asking, stop := context.WithTimeout(ctx, checkLimit)
	defer stop()
	asked, wait := askedOf(asking, client, found.Address)
	for _, p := range s.Peers {
		if p.Address == found.Address {
			p = gated(outsideChecked(asking, p), gateOf(asking, client, s))
			w = explainPeer(p, s, ping, kernelRoute(newMachineFacts(), s, p))
			if wait && !p.Allowed && !p.Blocked {
				w.Says, w.Try, w.Code = whyAsked(asked), "anode peers requests", codeAsked
			}
			if list, err := client.Endpoints(asking, control.EndpointsRequest{Address: p.Address}); err == nil {
				w.Endpoints = &list
				w.blameHosts()
			}
			if helped(w.Code) {
				w.Notes = append(w.Notes, zoneNotes(asking, client, s, p.Address, a.now())...)
			}
			return w, s, nil
		}
	}
	if wait {
		return w, s, &failure{exitUnreachable, whyAsked(asked) + "; it was not heard yet", "anode peers requests"}
	}
	return w, s, &failure{exitUnknownPeer, "no peer has the address " + found.Address.String() + ", and it was not heard", "anode peers add " + found.Address.String()}
}

// codeAsked is the code of a peer that this machine asked, and that has not accepted.
const codeAsked = "asked"

// askedOf returns the request of a peer that was asked, and whether it was.
func askedOf(ctx context.Context, client *control.Client, a anode.Address) (control.Request, bool) {
	list, err := client.Requests(ctx)
	i := slices.IndexFunc(list.Requests, func(r control.Request) bool { return r.Address == a && r.State == control.StateAsked })
	if err != nil || i < 0 {
		return control.Request{}, false
	}
	return list.Requests[i], true
}

// whyAsked says what is waited for.
func whyAsked(r control.Request) string {
	if r.Refused {
		return labelOf(r.As, r.Address.ID()) + " was asked, but " + takesNoRequests
	}
	return askedSentence(r.As, r.Address.ID())
}

// settled returns the status once no attempt to open a direct path to a peer is under way, or
// after a while.
func settled(ctx context.Context, client *control.Client, a anode.Address) (s overlay.Status, err error) {
	look := time.NewTicker(whyLook)
	defer look.Stop()
	for range whyOpen / whyLook {
		asking, stop := context.WithTimeout(ctx, checkLimit)
		s, err = client.Status(asking)
		err = silence(asking, err)
		stop()
		k := slices.IndexFunc(s.Peers, func(p overlay.PeerStatus) bool { return p.Address == a })
		if err != nil || k < 0 || s.Peers[k].PathReason != overlay.ReasonPunching {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-look.C:
		}
	}
	return s, nil
}

// outsideChecked tells apart a relay that is off and a network that blocks UDP: the machine of
// the relay answers by TCP.
func outsideChecked(ctx context.Context, p overlay.PeerStatus) overlay.PeerStatus {
	if p.Reason == overlay.ReasonRelaySilent && answersTCP(ctx, p.ReasonAt) {
		p.Reason, p.ReasonAt = overlay.ReasonUDPBlocked, ""
	}
	return p
}

// codesHelp lists codes for the help.
func codesHelp(list []reasonLine) string {
	var b strings.Builder
	for _, l := range list {
		fmt.Fprintf(&b, "  %-16s %s\n", l.code, l.says)
	}
	return b.String()
}

// silence returns the error of a request to the daemon, in words if its time was over.
func silence(ctx context.Context, err error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	return &failure{exitFailed, "the daemon, or DNS, did not answer in time", "anode doctor"}
}

// pingUntil pings a peer, and again each second until a reply comes: on a bad line some get lost.
func pingUntil(ctx context.Context, client *control.Client, to anode.Address) (last whyPinged) {
	ctx, cancel := context.WithTimeout(ctx, whyPing+checkLimit)
	results := make(chan whyPinged)
	sent, ended := 0, 0
	send := func() {
		sent++
		go func() { results <- pingOnce(ctx, client, to) }()
	}
	defer func() {
		cancel()
		for ; ended < sent; ended++ {
			<-results
		}
	}()
	next := time.NewTicker(whyPing / whyPings)
	defer next.Stop()
	send()
	for ended < sent {
		select {
		case last = <-results:
			if ended++; last.RTT != nil {
				return last
			}
		case <-next.C:
			if sent < whyPings {
				send()
			}
		}
	}
	return last
}

// pingOnce sends a ping and waits for its reply.
func pingOnce(ctx context.Context, client *control.Client, to anode.Address) whyPinged {
	reply, err := client.Ping(ctx, control.PingRequest{Address: to, TimeoutMS: int(whyPing.Milliseconds())})
	if err != nil {
		var remote *control.Error
		w := whyPinged{}
		if errors.As(err, &remote) {
			w.reason = remote.Reason
		}
		w.Error = lossWords(err)
		return w
	}
	ms := float64(reply.RTT) / float64(time.Millisecond)
	return whyPinged{RTT: &ms, Path: &reply.Path}
}

// kernelRoute asks the kernel for the route to a peer; nil if it cannot tell, or there is
// no adapter.
func kernelRoute(m machine, s overlay.Status, p overlay.PeerStatus) *whyRoute {
	if s.Tun == nil {
		return nil
	}
	r, ok := routeTo(m, *s.Tun, p)
	if !ok {
		return nil
	}
	w := &whyRoute{Interface: r.dev, Adapter: s.Tun.Name, Covering: []string{}}
	list, err := m.covering(s.Tun.Name, []netip.Addr{r.ula})
	if err != nil {
		list = []platform.Covering{}
	}
	for _, c := range list {
		if c.Prefix.IsSingleIP() {
			continue
		}
		w.Covering = append(w.Covering, c.Prefix.String()+" on "+c.Name)
	}
	return w
}

// explainPeer decides from the facts whether a peer can be reached.
func explainPeer(p overlay.PeerStatus, s overlay.Status, ping whyPinged, r *whyRoute) whyAnswer {
	w := whyAnswer{Schema: schema, Ping: ping, Route: r, Peer: p, Notes: []advice{}}
	if p.Reason == "" {
		p.Reason = ping.reason // the ping knows it first
	}
	what, try := reasonWords(p, s.Address)
	stolen := r != nil && r.Interface != r.Adapter
	switch {
	case what != "":
		w.Says, w.Try, w.Code = what, try, string(p.Reason)
	case ping.RTT == nil:
		w.Says, w.Code = fmt.Sprintf("%s did not answer a ping: %s", label(p), ping.Error), "unreachable"
		w.Try = fmt.Sprintf("on that machine: anode doctor; if it is on another network or has moved: anode peers endpoints add %s udp:IP:PORT", nameOf(p))
	case stolen:
		f := judgeRoute(peerRoute{nameOf(p), p.ULA.Addr(), r.Interface, nil, strayFateOf(*s.Tun)}, r.Adapter)
		w.Says, w.Try, w.Code = "anode reaches "+label(p)+", but programs do not: "+f.Says, f.Try, f.Code
	case s.Tun == nil:
		w.Says, w.Code = label(p)+" can be reached by a proxy, anode forward and anode nc: this daemon has no adapter", "no_adapter"
		w.Reachable = true
	default:
		w.Says, w.Code, w.Reachable = label(p)+" can be reached", "up", true
		if p.Path.Kind == overlay.PathRelay {
			w.Says += ", through " + route(p.Path, namesOf(s.Peers))
		}
	}
	if w.Reachable {
		w.Notes = append(w.Notes, transportAdvice(p, s)...)
	}
	if w.Code == string(overlay.ReasonNoAnswer) {
		w.Notes = append(w.Notes, symmetricAdvice(s)...)
	}
	if p.PathReason != "" && string(p.PathReason) != w.Code {
		w.PathCode = p.PathReason
		w.PathSays, w.PathTry = pathReasonWords(p, s)
		w.Notes = append(w.Notes, pathAdvice(p, s)...)
	}
	return w
}

// printWhy prints the answer for people: first what is the matter and what to do, then
// the facts.
func (a *app) printWhy(w whyAnswer, names map[anode.Address]string) {
	wrapped(a.out, a.columnsOf(), "", "", sentence(w.Says))
	if w.Try != "" {
		wrapped(a.out, a.columnsOf(), "try: ", "     ", w.Try)
	}
	if w.PathSays != "" {
		wrapped(a.out, a.columnsOf(), "", "", sentence("No direct path: "+w.PathSays))
		wrapped(a.out, a.columnsOf(), "try: ", "     ", w.PathTry)
	}
	for _, n := range w.Notes {
		wrapped(a.out, a.columnsOf(), "", "", sentence("Also: "+n.Says))
		if n.Code != string(overlay.ReasonNoPortmap) { // whose remedy the path's has
			wrapped(a.out, a.columnsOf(), "try: ", "     ", n.Try)
		}
	}
	fmt.Fprintln(a.out)
	for _, f := range whyFacts(w, names, a.now()) {
		wrapped(a.out, a.columnsOf(), fmt.Sprintf("%-9s", f[0]), "         ", f[1])
	}
}

// sentence ends a text with a full stop.
func sentence(text string) string { return strings.TrimSuffix(text, ".") + "." }

// whyFacts are the facts behind an answer: a word and what is known.
func whyFacts(w whyAnswer, names map[anode.Address]string, now time.Time) (list [][2]string) {
	add := func(name, text string) { list = append(list, [2]string{name, text}) }
	p := w.Peer
	add("address", p.Address.String())
	add("IPv6", p.ULA.String())
	add("here", hereWords(p))
	add("there", thereWords(p))
	add("state", stateWords(p))
	add("path", pathWords(p.Path, names)+agoWords(p))
	if w.Ping.RTT != nil {
		add("ping", fmt.Sprintf("answered just now in %s ms, %s", millis(*w.Ping.RTT), route(*w.Ping.Path, names)))
	} else {
		add("ping", "no reply: "+w.Ping.Error)
	}
	if e := w.Endpoints; e != nil {
		add("known", endpointWords(*e))
	}
	switch {
	case p.LastSeen == nil:
		add("heard", "never since the daemon started")
	default:
		add("heard", age(max(0, now.Sub(*p.LastSeen)))+" ago")
	}
	if p.RxBytes+p.TxBytes > 0 {
		add("traffic", bytesOf(p.RxBytes)+" received, "+bytesOf(p.TxBytes)+" sent")
	}
	if p.Attempts != nil && p.Attempts.Count > 0 {
		add("attempts", attemptWords(*p.Attempts))
	}
	for _, x := range p.Ways {
		add("way", wayWords(x, names))
	}
	if r := w.Route; r != nil {
		add("route", routeWords(*r))
		for _, c := range r.Covering {
			add("network", c+" contains the peer's address")
		}
	}
	return list
}

// blameHosts names a host name without addresses as the cause if nobody knows where the
// peer is, relays included.
func (w *whyAnswer) blameHosts() {
	if w.Code != string(overlay.ReasonNoEndpoint) && w.Code != string(overlay.ReasonNotAtRelay) || w.Endpoints == nil {
		return
	}
	for _, h := range w.Endpoints.Hosts {
		if fault := hostFault(h); fault != nil && len(h.Addresses) == 0 {
			w.Says += fmt.Sprintf("; its host name %s: %s", h.Endpoint.Name, strings.Join(fault, ""))
			w.Try = fmt.Sprintf("check the name and this machine's DNS; or give it an IP address: anode peers endpoints add %s udp:IP:PORT", nameOf(w.Peer))
		}
	}
}

// endpointWords lists where a peer may be found.
func endpointWords(e control.Endpoints) string {
	given := strings.Join(givenNotes(e), ", ")
	switch {
	case given == "" && len(e.Learned) == 0:
		return "no endpoint was given: beacons, relays, and peers that know it lead to it"
	case len(e.Learned) == 0:
		return "at " + given + " (given)"
	case given == "":
		return "at " + joined(e.Learned, ", ") + " (learned)"
	}
	return "at " + given + " (given), " + joined(e.Learned, ", ") + " (learned)"
}

func hereWords(p overlay.PeerStatus) string {
	switch {
	case p.Blocked:
		return "blocked on this machine"
	case p.Allowed:
		return "added on this machine"
	}
	return "not added on this machine"
}

func thereWords(p overlay.PeerStatus) string {
	switch {
	case p.Admits == nil:
		return "it has not told whether this machine is added there"
	case *p.Admits:
		return "this machine is added there"
	}
	return "this machine is not added there"
}

func stateWords(p overlay.PeerStatus) string {
	switch p.State {
	case overlay.StateUp:
		if p.Machines > 1 {
			return fmt.Sprintf("connected, with %d machines that share this address", p.Machines)
		}
		return "connected"
	case overlay.StateConnecting:
		return "connecting: a path is looked for, or keys are exchanged"
	case overlay.StateUnreachable:
		return "the last attempt to connect failed; the next one begins when there is something to send"
	case overlay.StateBlocked:
		return "blocked"
	}
	return "idle: it is connected again when there is something to send"
}

func pathWords(p overlay.PathStatus, names map[anode.Address]string) string {
	if p.Kind == overlay.PathNone || p.Kind == "" {
		return "none"
	}
	text := route(p, names)
	if p.RTT > 0 {
		text += ", " + millis(p.RTT) + " ms"
	}
	if p.MTU > 0 {
		text += fmt.Sprintf(", packets of up to %d bytes", p.MTU)
	}
	return text
}

func routeWords(r whyRoute) string {
	switch r.Interface {
	case r.Adapter:
		return "programs' packets go to " + r.Adapter + ", as they should"
	case "":
		return "none: programs' packets should go to " + r.Adapter
	}
	return fmt.Sprintf("programs' packets go to %s; they should go to %s", r.Interface, r.Adapter)
}
