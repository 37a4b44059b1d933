package main

import (
	"context"
	"fmt"
	"strings"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// peerHost is a host name among the endpoints of a peer, and what DNS has for it.
type peerHost struct {
	Peer anode.Address `json:"peer"`
	control.Host
}

// hostsOf lists the host names of all added peers. A daemon that does not tell has none.
func hostsOf(ctx context.Context, client *control.Client) []peerHost {
	list := []peerHost{}
	book, err := client.Book(ctx)
	if err != nil {
		return list
	}
	for _, e := range book.Peers {
		for _, h := range e.Hosts {
			if e.Added {
				list = append(list, peerHost{e.Address, h})
			}
		}
	}
	return list
}

// hostNotes are the lines below a peer about its host names: all of them if that is asked for
// or the peer is not reached, else those that are not found.
func (a *app) hostNotes(p overlay.PeerStatus, v statusView, width int) (notes [][]string) {
	for _, h := range v.hosts {
		well := h.State == control.HostFound && p.State == overlay.StateUp
		if h.Peer == p.Address && !p.Blocked && (v.long || !well) {
			notes = append(notes, noteLines(a.hostWords(h.Host), width)...)
		}
	}
	return notes
}

// hostWords says what is known of a host name.
func (a *app) hostWords(h control.Host) string {
	ips := make([]string, len(h.Addresses))
	for i, ip := range h.Addresses {
		ips[i] = ip.String()
	}
	name, last := h.Endpoint.String(), strings.Join(ips, ", ")
	if h.State == control.HostFound {
		return fmt.Sprintf("%s is %s", name, last)
	}
	text := name + ": " + strings.Join(hostFault(h), "")
	if h.Since != nil {
		text += ", since " + strings.TrimSuffix(a.ago(h.Since), " ago")
	}
	if last != "" {
		text += "; it was " + last + " before"
	}
	return text
}
