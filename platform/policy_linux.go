package platform

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// policy stands in for the half of a guard that is about outgoing packets: a table of
// routes that holds the peers' addresses and nothing else, and one rule that has it asked
// before the table main, where others add routes.
//
//	ip -6 rule add pref 97 lookup TABLE proto 97
//
// The rule does not go with the interface. The table's number names the interface, so
// that a rule without an adapter is known to be left behind.
type policy struct {
	conn  *conn
	index int
}

const (
	policyPriority = 97         // after the rule of local addresses, before those of others
	policyTables   = 0x616e0000 // the interface's index is added
	policyIndexes  = 0x10000
)

func (p *policy) table() uint32 { return policyTables + uint32(p.index)%policyIndexes }

func (p *policy) add() error {
	return p.conn.request(func(e *encoder) {
		e.message(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, ruleHeader(), func() { ruleAttrs(e, p.table()) })
	}, isOneOf(unix.EEXIST))
}

func (p *policy) remove() error { return removeRule(p.conn, p.table()) }

// missing reports whether somebody has removed the rule.
func (p *policy) missing() (bool, error) {
	tables, err := ownRules(p.conn)
	for _, t := range tables {
		if t == p.table() {
			return false, nil
		}
	}
	return err == nil, err
}

func removeRule(c *conn, table uint32) error {
	return c.request(func(e *encoder) {
		e.message(unix.RTM_DELRULE, unix.NLM_F_ACK, ruleHeader(), func() { ruleAttrs(e, table) })
	}, isOneOf(unix.ENOENT))
}

// ruleHeader is the fixed part of a message about a rule (linux/fib_rules.h):
//
//	family[1] destination bits[1] source bits[1] tos[1] table[1] reserved[2] action[1] flags[4]
func ruleHeader() []byte {
	return []byte{unix.AF_INET6, 0, 0, 0, unix.RT_TABLE_UNSPEC, 0, 0, unix.FR_ACT_TO_TBL, 0, 0, 0, 0}
}

func ruleAttrs(e *encoder, table uint32) {
	e.native(unix.FRA_PRIORITY, policyPriority)
	e.native(unix.FRA_TABLE, table)
	e.attr(unix.FRA_PROTOCOL, ownProtocol)
}

// ownRules lists the tables of the rules that nodes have made.
func ownRules(c *conn) (tables []uint32, err error) {
	err = c.dump(func(e *encoder) {
		fixed := ruleHeader()
		fixed[7] = 0
		e.message(unix.RTM_GETRULE, unix.NLM_F_DUMP, fixed, nil)
	}, func(body []byte) {
		if table, ok := parseRule(body); ok {
			tables = append(tables, table)
		}
	})
	return tables, err
}

// parseRule returns the table of a rule that a node has made.
func parseRule(b []byte) (table uint32, ok bool) {
	if len(b) < 12 || b[0] != unix.AF_INET6 {
		return 0, false
	}
	var priority uint32
	var protocol byte
	err := eachAttr(b[12:], func(kind uint16, value []byte) {
		switch {
		case kind == unix.FRA_TABLE:
			table = uint32(number(value))
		case kind == unix.FRA_PRIORITY && len(value) == 4:
			priority = binary.NativeEndian.Uint32(value)
		case kind == unix.FRA_PROTOCOL && len(value) == 1:
			protocol = value[0]
		}
	})
	return table, err == nil && priority == policyPriority && protocol == ownProtocol &&
		table >= policyTables && table < policyTables+policyIndexes
}

// Cleanup removes what nodes that were killed have left in the system, and returns words
// about each thing. It lets what belongs to a running node be. All else goes with the
// process that made it.
func Cleanup() (removed []string, err error) {
	c, err := dialNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	removed, err = cleanup(c)
	return removed, errors.Join(err, c.close())
}

func cleanup(c *conn) (removed []string, err error) {
	tables, err := ownRules(c)
	if err != nil {
		return nil, fmt.Errorf("policy rules: %w", err)
	}
	var errs []error
	for _, t := range tables {
		owner := iface{conn: c, index: int(t - policyTables)}
		s, err := owner.link()
		switch {
		case err == nil && s.group == adapterGroup: // a running node's
			continue
		case err != nil && !errors.Is(err, errGone):
			errs = append(errs, fmt.Errorf("policy rule of table %d: %w", t, err))
			continue
		}
		if err := removeRule(c, t); err != nil {
			errs = append(errs, fmt.Errorf("policy rule of table %d: %w", t, err))
			continue
		}
		removed = append(removed, fmt.Sprintf("policy rule: pref %d lookup %d", policyPriority, t))
	}
	return removed, errors.Join(errs...)
}
