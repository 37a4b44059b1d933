package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "config",
		Short:   "Check the configuration, or print an example",
		GroupID: groupOther,
	})
	cmd.AddCommand(
		&cobra.Command{
			Use:   "check [FILE]",
			Short: "Read the configuration as the daemon would, and report what is wrong with it",
			Args:  want(0, 1),
			RunE: func(_ *cobra.Command, args []string) error {
				source := a.source()
				if len(args) == 1 {
					source.File, source.Maybe = args[0], false
				}
				c, err := source.Load()
				if err != nil {
					return err
				}
				if _, err := c.Secret.Load(); err != nil {
					return fmt.Errorf("the network's secret: %w", err)
				}
				fmt.Fprintln(a.out, "fine")
				return nil
			},
		},
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
			Short: "Make a secret for the key \"secret\", which all nodes of a network share",
			Args:  want(1, 1),
			RunE: func(_ *cobra.Command, args []string) error {
				return a.makeSecret(args[0])
			},
		},
	)
	return cmd
}

// makeSecret writes a new file, and never overwrites one.
func (a *app) makeSecret(path string) error {
	var secret [config.SecretSize]byte
	rand.Read(secret[:]) // never fails (crypto/rand)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &failure{exitFailed, path + " exists", "another file name, or remove the file if no node uses it any more"}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, hex.EncodeToString(secret[:]))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s holds a new secret. Copy it to the other machines over a safe channel, and set\nsecret = \"file:%s\" in the configuration of each.\n", path, path)
	return nil
}
