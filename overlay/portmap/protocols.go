package portmap

// ports are where a gateway's servers listen.
type ports struct{ pcp, ssdp uint16 }

var standard = ports{pcp: 5351, ssdp: 1900}

// protocols lists the ways to ask about the route, the best first.
func protocols(r Route, port uint16, key []byte, at ports) []protocol {
	list := []protocol{newPCP(r, port, key, at.pcp)}
	if r.Source.Is4() {
		list = append(list, newNATPMP(r, port, at.pcp))
	}
	return append(list, newUPnP(r, port, at.ssdp))
}
