//go:build !linux

package main

import (
	"context"
	"io/fs"
	"net/netip"

	"anodenet/overlay/link"
	"anodenet/platform"
)

// machineFacts knows little of this system: doctor leaves out the checks that need more.
type machineFacts struct{}

func newMachineFacts() machine { return machineFacts{} }

func (machineFacts) holder(context.Context, string) holder { return holder{uid: -1} }
func (machineFacts) rights() (rights, error)               { return rights{}, errNotHere }
func (machineFacts) device() (device, error)               { return device{}, errNotHere }
func (machineFacts) iface(string) (iface, error)           { return iface{}, errNotHere }
func (machineFacts) ipv6(string) (ipv6, error)             { return ipv6{}, errNotHere }
func (machineFacts) locker(string) (int, error)            { return 0, errNotHere }
func (machineFacts) synchronised() (bool, error)           { return false, errNotHere }
func (machineFacts) takesSource(netip.Addr) (bool, error)  { return false, errNotHere }
func (machineFacts) routeOf(netip.Addr) (string, error)    { return "", errNotHere }

func (machineFacts) port(uint16) ([]portUser, error) { return nil, errNotHere }

func (machineFacts) rules(context.Context) (firewallRules, error) {
	return firewallRules{}, errNotHere
}

func (machineFacts) links(adapter string) (link.State, error) {
	var s link.System
	s.Exclude(adapter)
	return s.State()
}

func (machineFacts) covering(string, []netip.Addr) ([]platform.Covering, error) {
	return nil, errNotHere
}

func ownerOf(fs.FileInfo) (uid int, ok bool) { return 0, false }
