#!/bin/sh
# After the installation or an upgrade, for deb (configure [OLD VERSION]) and rpm (1 or 2).
set -e
case "$1" in
configure) [ -z "$2" ] && new=yes || new= ;;
1) new=yes ;;
2) new= ;;
*) exit 0 ;;
esac
if [ -e /etc/anode/.removed ]; then
	rm /etc/anode/.removed
	new=yes
fi

make_user() {
	if command -v systemd-sysusers >/dev/null; then
		systemd-sysusers anode.conf && return
	fi
	getent group anode >/dev/null || groupadd --system anode
	getent passwd anode >/dev/null ||
		useradd --system --gid anode --no-create-home --home-dir /var/lib/anode --shell /usr/sbin/nologin --comment "Anode daemon" anode
}
# service VERB starts or restarts the daemon, if the administrator has not forbidden it.
service() {
	if command -v deb-systemd-invoke >/dev/null; then deb-systemd-invoke "$1" anode.service; else systemctl "$1" anode.service; fi
}

make_user
if command -v systemctl >/dev/null; then
	[ -z "$new" ] || systemctl -q enable anode.service
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		if [ -n "$new" ]; then service start; else service try-restart; fi || echo "anode: the daemon did not start; see: journalctl -u anode" >&2
	fi
fi
[ -n "$new" ] || exit 0
if [ -d /run/systemd/system ] && address=$(anode id 2>/dev/null); then
	printf '%s\n' "Anode runs. This machine is:" "$address"
else
	echo "Anode is installed. Once its daemon runs, \"anode id\" prints the address of this machine."
fi
echo "Next: anode invite NAME here, and anode join on the other machine. To use it without sudo: usermod -aG anode USER"
