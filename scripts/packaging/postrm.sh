#!/bin/sh
# After the removal. State and configuration stay until "apt purge"; rpm has no purge.
set -e
case "$1" in
remove | purge | 0) [ ! -d /run/systemd/system ] || systemctl daemon-reload ;;
esac
[ "$1" = purge ] || exit 0
[ ! -e /var/lib/anode/identity ] || echo "anode: removing the identity: this machine loses its Anode address"
rm -rf /var/lib/anode /etc/anode /run/anode
if getent group anode >/dev/null; then gpasswd -M "" anode; fi # userdel complains about members
if getent passwd anode >/dev/null; then userdel anode; fi
if getent group anode >/dev/null; then groupdel anode; fi
