package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"anodenet/platform"
)

// manExamples are the examples of the manual pages, by command without "anode".
var manExamples = map[string]string{
	"": "sudo anode up\n" +
		"sudo anode invite south\n" +
		"sudo anode join\n" +
		"ping north.anode.internal\n" +
		"ssh north.anode.internal",
	"up":              "sudo anode up\nsudo anode up --relay --zone 192.0.2.1\nsudo anode up --port 8738 --set log.level=debug\nanode up --tun none --socks 1080 --state ~/.anode --socket ~/.anode/socket",
	"daemon":          "systemctl enable --now anode\nsystemctl reload anode",
	"down":            "sudo anode down",
	"id":              "anode id\nanode id --json | jq -r .address\nanode id --state ~/.anode\nanode id --reach",
	"ip":              "ssh $(anode ip north)\ncurl \"http://[$(anode ip north)]/\"",
	"whois":           "anode whois fd00:0:48:29a1:c0fe:45ea:288c:f18c",
	"ping":            "anode ping north\nanode ping north -c 3",
	"status":          "anode status\nwatch anode status\nanode status --json | jq '.peers[].state'",
	"peers add":       "anode peers add ADDRESS north\nanode peers add ADDRESS north --endpoint udp:192.0.2.1:8737\nanode peers add ADDRESS north --endpoint https://home.example.org/anode",
	"peers list":      "anode peers list --json | jq -r '.peers[] | select(.relation == \"friend\").name'",
	"peers ask":       "anode peers ask ADDRESS --name west --note \"East, from the party\"",
	"peers requests":  "anode peers requests --json | jq -r '.requests[].id'",
	"peers accept":    "anode peers accept fc288fa2df9c034e --as west",
	"peers decline":   "anode peers decline fc288fa2df9c034e --block",
	"peers introduce": "anode peers introduce north south --note \"You both play\"",
	"peers set":       "anode peers set laptop --mine",
	"invite":          "anode invite east\nanode invite east --qr\nanode invite --uses 20 --for 7d --json | jq -r .link > /run/secrets/link\nanode invite laptop --mine\nanode invite --card --qr",
	"invite list":     "anode invite list\nanode invite list --json | jq '.invitations[].late'",
	"invite revoke":   "anode invite revoke 3fa9c1d2",
	"join":            "anode join\nanode join - < link.txt\nanode join file:/run/secrets/link --timeout 5m\nanode join --ask --note \"East, from the party\"",
	"peers rename":    "anode peers rename north laptop",
	"peers remove":    "anode peers remove north",
	"peers block":     "anode peers block c0fe45ea288cf18c",
	"peers unblock":   "anode peers unblock c0fe45ea288cf18c",
	"send":            "anode send report.pdf photos north",
	"recv":            "anode recv\nanode recv --dir ~/Downloads --from north\nanode recv --dir /srv/in --yes --keep --json\nANODE_FILES_TRUST=north,south anode recv --keep",
	"say":             "anode say The printer works again\nuptime | anode say -",
	"chat":            "anode chat\nanode chat --network bare",
	"info2 log":       "anode info2 log -n 100\nanode info2 log -f --exec /usr/local/bin/notify",
	"info2 connect":   "anode info2 connect north",
	"zone show":       "anode zone show\nanode zone show 192.0.2.1 --json",
	"zone init":       "anode zone init zone.txt --name Home",
	"zone check":      "anode zone check ./zone.txt\nanode zone check 192.0.2.1",
	"zone serve":      "sudo anode zone serve ./zone.txt",
	"zone join":       "sudo anode zone join 192.0.2.1",
	"nc":              "ssh -o ProxyCommand=\"anode nc %h %p\" north\necho GET / | anode nc north 80\necho hello | anode nc --udp north 7",
	"forward":         "anode forward 8080 north:80\nanode forward --udp 5353 north:53\nanode forward unix:/run/user/1000/web north:80\nanode forward",
	"expose":          "anode expose 8080\nanode expose 80 --to 127.0.0.1:8080 --only north --only south\nanode expose",
	"config check":    "anode config check\nanode config check ./anode.toml",
	"config secret":   "sudo anode config secret /etc/anode/secret\nsudo chown anode /etc/anode/secret",
	"doctor":          "anode doctor",
	"why":             "anode why north\nanode why north --json | jq -r .path_code",
	"trace":           "anode trace north\nanode trace north -c 10 --json",
	"netcheck":        "anode netcheck\nanode netcheck --json | jq -r .code",
}

// manCommand writes the manual pages, for packages. Users need no such verb: it is hidden.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
		Long:   "Write the manual pages into a directory. Their date is SOURCE_DATE_EPOCH, else that of\nthe commit that this program was built from.",
		Hidden: true,
		Args:   want(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := manDate()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.InitDefaultCompletionCmd()
			root.InitDefaultHelpCmd()
			if err := writeMan(root, args[0], date); err != nil {
				return err
			}
			return writeTopics(args[0], date)
		},
	}
}

// manDate returns the date of the pages: two builds of one commit make the same ones.
func manDate() (time.Time, error) {
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, &failure{exitUsage, "SOURCE_DATE_EPOCH: want seconds since 1970", ""}
		}
		return time.Unix(seconds, 0).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339, buildDate); err == nil {
		return t.UTC(), nil
	}
	return time.Unix(0, 0).UTC(), nil
}

// writeMan writes the page of a command and those of all below it.
func writeMan(cmd *cobra.Command, dir string, date time.Time) error {
	if cmd.Hidden || cmd.Name() == "help" {
		return nil
	}
	file := filepath.Join(dir, manName(cmd)+".1")
	if err := os.WriteFile(file, []byte(manPage(cmd, date)), 0o644); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if err := writeMan(c, dir, date); err != nil {
			return err
		}
	}
	return nil
}

// manName is "anode-peers-add" for "anode peers add".
func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is a page in the language of man(7).
func manPage(cmd *cobra.Command, date time.Time) string {
	var m roff
	m.head(manName(cmd), "1", date)
	m.section("NAME")
	m.text(manName(cmd) + " - " + cmd.Short)
	m.section("SYNOPSIS")
	m.synopsis(cmd)
	m.section("DESCRIPTION")
	m.text(folded(cmd.Long))
	if cmd.Long == "" {
		m.text(cmd.Short + ".")
	}
	m.commands(cmd)
	m.flags("OPTIONS", cmd.NonInheritedFlags())
	m.flags("OPTIONS OF ALL COMMANDS", cmd.InheritedFlags())
	if cmd == cmd.Root() {
		m.topics()
		m.surroundings()
	}
	examples := manExamples[strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()), " ")]
	if examples != "" {
		m.section("EXAMPLES")
		m.literal(strings.Split(examples, "\n"))
	}
	m.seeAlso(cmd)
	return m.String()
}

// roff builds a page.
type roff struct{ strings.Builder }

// head begins a page.
func (m *roff) head(name, section string, date time.Time) {
	m.line(".TH", strings.ToUpper(name), section, date.Format(time.DateOnly), "anode", "Anode")
	m.line(".nh") // a command that is broken at its hyphen cannot be copied
	m.WriteString(".ad l\n")
}

// line writes a request with quoted arguments.
func (m *roff) line(request string, args ...string) {
	m.WriteString(request)
	for _, a := range args {
		m.WriteString(` "` + strings.ReplaceAll(roffEscape(a), `"`, `\(dq`) + `"`)
	}
	m.WriteByte('\n')
}

func (m *roff) section(title string) { m.line(".SH", title) }

// text writes paragraphs. Lines that are indented stay as they are.
func (m *roff) text(text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			m.line(".PP")
		}
		if lines := strings.Split(paragraph, "\n"); strings.HasPrefix(lines[len(lines)-1], " ") {
			m.literal(lines)
			continue
		}
		for line := range strings.Lines(paragraph) {
			m.plain(strings.TrimSpace(line))
		}
	}
}

// literal writes lines that are not filled.
func (m *roff) literal(lines []string) {
	m.line(".nf")
	for _, line := range lines {
		m.plain(line)
	}
	m.line(".fi")
}

func (m *roff) plain(line string) { m.WriteString(roffEscape(line) + "\n") }

// item writes a term and its explanation.
func (m *roff) item(term, text string) {
	m.line(".TP")
	m.WriteString(term + "\n")
	m.plain(text)
}

// roffEscape takes the meaning from characters that are the language's own.
func roffEscape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	if strings.HasPrefix(text, ".") {
		return `\&` + text
	}
	return text
}

func roffBold(text string) string   { return `\fB` + roffEscape(text) + `\fR` }
func roffItalic(text string) string { return `\fI` + roffEscape(text) + `\fR` }

func (m *roff) synopsis(cmd *cobra.Command) {
	words := strings.Fields(strings.TrimPrefix(cmd.Use, cmd.Name()))
	use := roffBold(cmd.CommandPath())
	if cmd.HasAvailableSubCommands() {
		words = []string{"COMMAND"}
	}
	for _, w := range words {
		use += " " + roffItalic(w)
	}
	m.WriteString(use + " [options]\n")
}

// commands lists the commands below one.
func (m *roff) commands(cmd *cobra.Command) {
	first := true
	for _, c := range cmd.Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		if first {
			m.section("COMMANDS")
			first = false
		}
		m.item(roffBold(manName(c))+"(1)", c.Short)
	}
}

func (m *roff) flags(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	m.section(title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, about := pflag.UnquoteUsage(f)
		term := roffBold("--" + f.Name)
		if f.Shorthand != "" {
			term = roffBold("-"+f.Shorthand) + ", " + term
		}
		if value != "" {
			term += " " + roffItalic(value)
		}
		switch f.DefValue {
		case "", "0", "false", "[]", "0s":
		default:
			about += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		m.item(term, about)
	})
}

// topics lists the pages of the help topics.
func (m *roff) topics() {
	m.section("TOPICS")
	for _, t := range topics() {
		m.item(roffBold("anode-"+t.name)+"(7)", t.title)
	}
}

// surroundings describes what all commands share.
func (m *roff) surroundings() {
	usual := platform.DefaultDirectories()
	m.section("EXIT STATUS")
	for i, text := range []string{"Success.", "Failure.", "Wrong usage.", "No daemon is running.", "There is no such peer.", "The peer cannot be reached."} {
		m.item(roffBold(strconv.Itoa(i)), text)
	}
	m.section("ENVIRONMENT")
	m.item(roffBold("ANODE_LISTEN_PORT")+", ...", "Each key of the configuration has a variable: ANODE_ and the key, with _ for the dot. It overrides the file, and flags override it.")
	m.item(roffBold("ANODE_STATE")+", "+roffBold("ANODE_SOCKET")+", "+roffBold("ANODE_CONFIG"), "The paths that --state, --socket and --config name.")
	m.item(roffBold("ANODE_PEERS"), "Peers to add while the daemon runs, ADDRESS[@ENDPOINT], separated by commas or blanks. An endpoint is udp:HOST:PORT, tcp:HOST:PORT, http://HOST/PATH or https://HOST/PATH.")
	m.item(roffBold("NO_COLOR")+", "+roffBold("TERM")+"=dumb", "No colours, and no full screen in \"anode chat\".")
	m.section("FILES")
	m.item(roffItalic(usual.Config), "The configuration; see \"anode config example\". The daemon reads it again on SIGHUP.")
	m.item(roffItalic(filepath.Join(usual.State, "identity")), "The private key, which is the address: back it up, and keep it secret.")
	m.item(roffItalic(filepath.Join(usual.State, "state.db")), "The peers that were added and blocked.")
	m.item(roffItalic(usual.Socket), "The socket of the daemon, for root and for the members of the group anode.")
}

// seeAlso names the command above and those beside.
func (m *roff) seeAlso(cmd *cobra.Command) {
	up := cmd.Parent()
	if up == nil {
		return
	}
	m.section("SEE ALSO")
	list := []string{roffBold(manName(up)) + "(1)"}
	for _, c := range up.Commands() {
		if c != cmd && !c.Hidden && c.Name() != "help" && up.HasParent() {
			list = append(list, roffBold(manName(c))+"(1)")
		}
	}
	for _, t := range topicsAbout(cmd) {
		list = append(list, roffBold("anode-"+t.name)+"(7)")
	}
	m.WriteString(strings.Join(list, ", ") + "\n")
}
