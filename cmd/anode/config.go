package main

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/dns"
)

func (a *app) configCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "config",
		Short:   "Check or show the configuration, or print an example",
		GroupID: groupOther,
	})
	cmd.AddCommand(
		a.configCheckCommand(),
		a.configShowCommand(),
		&cobra.Command{
			Use:   "example",
			Short: "Print a configuration with every key, its meaning and its default",
			Args:  want(0, 0),
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprint(a.out, config.Example())
				return err
			},
		},
		&cobra.Command{
			Use:   "secret FILE",
			Short: "Make the secret of a closed network; - prints it",
			Long: "Make a secret for the key \"secret\" of the configuration, which all machines of the\n" +
				"network share, and write it to FILE; - prints it.",
			Args: want(1, 1),
			RunE: func(cmd *cobra.Command, args []string) error {
				if args[0] == "" {
					return usage(cmd, "FILE is empty")
				}
				return a.makeSecret(args[0])
			},
		},
	)
	return cmd
}

func (a *app) configCheckCommand() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Read the configuration as the daemon would; report what is wrong",
		Long: "Read the configuration as the daemon would: the file, the environment and the flags of\n" +
			"this command. Report everything that is wrong, or what is set and where.",
		Args: want(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.readConfig(&flags, cmd, args)
			if err != nil {
				return err
			}
			if err := a.checkFiles(l); err != nil {
				return err
			}
			a.reportConfig(l)
			return nil
		},
	}
	flags.addConfig(cmd)
	return cmd
}

// checkFiles reads the files that a configuration names with the rights that the daemon has.
func (a *app) checkFiles(l config.Loaded) (err error) {
	failed := asKeeper(a.state, func() {
		if _, e := l.Secret.Load(); e != nil {
			err = fmt.Errorf("the network's secret: %w", e)
		} else if _, _, e := l.Credentials.Load(); e != nil {
			err = fmt.Errorf("proxy_credentials: %w", e)
		}
	})
	return cmp.Or(failed, err)
}

// readConfig reads the configuration of a verb that takes its file as an argument.
func (a *app) readConfig(flags *runFlags, cmd *cobra.Command, args []string) (config.Loaded, error) {
	source := flags.source(a, cmd)
	if len(args) == 1 {
		if args[0] == "" {
			return config.Loaded{}, usage(cmd, "FILE is empty")
		}
		source.File, source.Maybe = args[0], false
	}
	return source.Read()
}

// reportConfig says what was read, what is set and where. It calls fine only what was
// there.
func (a *app) reportConfig(l config.Loaded) {
	if l.Read {
		fmt.Fprintf(a.out, "file %s\n", l.File)
	} else {
		fmt.Fprintf(a.out, "no file: %s does not exist\n", l.File)
	}
	set := 0
	for _, s := range l.Settings() {
		if s.Origin.Kind != config.FromDefault {
			fmt.Fprintf(a.out, "%s = %s  # %s\n", s.Key, s.TOML, s.Origin)
			set++
		}
	}
	for i, p := range l.Peers {
		fmt.Fprintf(a.out, "peer %s  # %s\n", strings.TrimSpace(p.Address.ID().String()+" "+p.Name), l.PeerOrigin(i))
	}
	for i, s := range l.Services {
		fmt.Fprintf(a.out, "service %s  # %s\n", strings.TrimSpace(fmt.Sprintf("%s/%d %s %s", s.Proto, s.Port, s.Type, s.Name)), l.ServiceOrigin(i))
	}
	switch {
	case l.Read || set+len(l.Peers) > 0:
		fmt.Fprintln(a.out, "fine")
	default:
		fmt.Fprintln(a.out, "nothing is set: the defaults apply (anode config show)")
	}
}

// configAnswer is the JSON of config show.
type configAnswer struct {
	Schema int              `json:"schema"`
	File   string           `json:"file"`
	Read   bool             `json:"read"` // whether the file was there
	Keys   []config.Setting `json:"keys"`
	Peers  []configPeer     `json:"peers"`
	// Services are those that friends are told of.
	Services []dns.Service `json:"services"`
}

// configPeer is a peer of the configuration.
type configPeer struct {
	Address   string        `json:"address"`
	Name      string        `json:"name"`
	Endpoints []string      `json:"endpoints"`
	Origin    config.Origin `json:"origin"`
}

func (a *app) configShowCommand() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print the configuration that applies, and where each value is from",
		Long: "Print the configuration that applies: every key with its value, and whether that comes\n" +
			"from the file, the environment, a flag of this command, or is the default.",
		Args: want(0, 1),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, err := a.readConfig(&flags, cmd, args)
		if err != nil {
			return err
		}
		if *asJSON {
			return a.json(answerConfig(l))
		}
		if !l.Read {
			fmt.Fprintf(a.out, "# no file: %s does not exist\n", l.File)
		}
		_, err = fmt.Fprint(a.out, l.TOML())
		return err
	}
	flags.addConfig(cmd)
	return cmd
}

func answerConfig(l config.Loaded) configAnswer {
	answer := configAnswer{Schema: schema, File: l.File, Read: l.Read, Keys: l.Settings(), Peers: []configPeer{}, Services: append([]dns.Service{}, l.Services...)}
	for i, p := range l.Peers {
		one := configPeer{p.Address.String(), p.Name, []string{}, l.PeerOrigin(i)}
		for _, e := range p.Endpoints {
			one.Endpoints = append(one.Endpoints, e.String())
		}
		answer.Peers = append(answer.Peers, one)
	}
	return answer
}

// makeSecret writes a new file, and never overwrites one; or prints a secret.
func (a *app) makeSecret(path string) error {
	var secret [config.SecretSize]byte
	rand.Read(secret[:]) // never fails (crypto/rand)
	if path == "-" {
		_, err := fmt.Fprintln(a.out, hex.EncodeToString(secret[:]))
		return err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &failure{exitFailed, path + " exists", "another file name, or remove the file if no node uses it any more"}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, hex.EncodeToString(secret[:]))
	if uid, gid, ok := keeper(a.state, serviceUser); ok && os.Geteuid() == 0 && err == nil {
		err = f.Chown(uid, gid) // the daemon reads it
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s holds a new secret. Copy it to the other machines over a safe channel, and set\nsecret = \"file:%s\" in the configuration of each.\n", path, path)
	return nil
}
