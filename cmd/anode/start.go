package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// startText is what "anode" alone prints: one screen for whoever sees it for the first time. The list
// of all commands is longer than a terminal is high.
const startText = `A flat, encrypted network of the machines that you choose.

On each machine:
  sudo anode up              and leave it running
To bring two machines together:
  sudo anode invite NAME     on one of them: makes a link; send it to the other
  sudo anode join            on the other: paste the link
Then:
  sudo anode status          this machine, its peers and the paths to them
  sudo anode ping NAME       is a peer there? ssh NAME.anode.internal works too
  sudo anode send FILE NAME  send a file to a peer that runs "anode recv"
  sudo anode chat            talk with everybody on the network
  sudo anode games on        play LAN games with each other
If something does not work:
  sudo anode why NAME        why a peer is not reached, and what to do
  sudo anode doctor          what is wrong on this machine, and what to do

Without root: anode up --tun none; then no command needs sudo.
All commands: anode --help. More about one: anode COMMAND --help.
`

// start has "anode" alone show how to begin; "anode --help" and "anode help" list everything.
func (a *app) start(root *cobra.Command) {
	others := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return others(cmd, args)
		}
		_, err := fmt.Fprint(a.out, startText)
		return err
	}
}
