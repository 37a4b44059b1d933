# Sourced by the scripts beside it: messages, root, tools, Go.
self=$(realpath "$0")
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$PWD
PATH=$PATH:/usr/sbin:/sbin # where su leaves them out

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
# usage prints the comment that a script begins with, and ends it.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$self"; exit "${1:-2}"; }
case "${1:-}" in -h | --help) usage 0 ;; esac

# as_root ARGUMENT... runs the script again as root if a user started it: namespaces need
# that. Root has Go caches of its own, so nothing in those of the user ends up as root's.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    [ -c /dev/net/tun ] || modprobe tun 2>/dev/null || die "there is no /dev/net/tun; try: modprobe tun"
    return
  fi
  local v keep=("PATH=$PATH")
  for v in ANODE BUILT CI CROSS DEBIAN_MIRROR FUZZ GOFLAGS GOPROXY GOSUMDB GOTOOLCHAIN ROUNDS SECONDS_EACH TMPDIR http_proxy https_proxy no_proxy; do
    [ -z "${!v:-}" ] || keep+=("$v=${!v}")
  done
  ask_sudo "$@"
  exec sudo -H env "${keep[@]}" "$self" "$@"
}

# ask_sudo ARGUMENT... says what sudo is for, before it asks for a password.
ask_sudo() {
  [ -z "${asked:-}" ] || return 0
  local why="network namespaces and missing packages need root" as="try, as root: $self${*:+ $*}"
  command -v sudo >/dev/null || die "$why, and there is no sudo; $as"
  echo "N${why:1}: running the rest by sudo."
  sudo true || die "$why, and sudo refused; $as"
  asked=yes
}

# have TOOL reports whether there is a program, or a file if it is named by its path.
have() { if [[ $1 == /* ]]; then [ -e "$1" ]; else command -v "$1" >/dev/null; fi; }

# give_back [DIR TEST...] makes what root has in the tree the user's who called sudo, also what a run
# left that was killed; or what passes the tests of find in DIR.
give_back() {
  local dir=${1:-$root}
  [ -z "${SUDO_UID:-}" ] || [ "$(stat -c %u "$dir")" != "$SUDO_UID" ] ||
    find "$dir" -xdev -uid 0 "${@:2}" -exec chown -h "$SUDO_UID:$SUDO_GID" {} +
}

# need TOOL:PACKAGE... installs the Debian packages whose tools are missing; a package of several words is several.
need() {
  local missing=() t
  for t in "$@"; do have "${t%%:*}" || missing+=(${t##*:}); done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "please install: ${missing[*]}"
  [ "$(id -u)" = 0 ] || die "please install: ${missing[*]}; try, as root: apt-get install ${missing[*]}"
  echo "installing: ${missing[*]}"
  { apt-get update -qq && install_quietly "${missing[@]}"; } >/dev/null 2>&1 || die "apt-get could not install: ${missing[*]}"
  for t in "$@"; do have "${t%%:*}" || die "there is still no ${t%%:*}, and ${t##*:} is installed"; done
}

# install_quietly PACKAGE... installs packages without what they recommend, such as mail servers, and
# for their programs only: no service of theirs starts, now or with the system. What starts and
# enables services does nothing in this mount namespace.
install_quietly() {
  DEBIAN_FRONTEND=noninteractive unshare --mount sh -ec '
    for f in /usr/sbin/invoke-rc.d /usr/sbin/update-rc.d /usr/bin/deb-systemd-invoke /usr/bin/deb-systemd-helper; do
      [ ! -e $f ] || mount --bind /bin/true $f
    done
    exec apt-get install -y -qq --no-install-recommends "$@"' sh "$@"
}

# need_go finds Go, which sudo often takes off the PATH.
need_go() {
  command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin:$HOME/go/bin
  command -v go >/dev/null || die "Go is not installed; see https://go.dev/dl"
  export PATH GOFLAGS="${GOFLAGS:-} -buildvcs=false" CGO_ENABLED="${CGO_ENABLED:-0}"
}

# in_git runs git on the tree, which may be another user's. No git, no answer.
in_git() { git -c safe.directory="$root" -C "$root" "$@" 2>/dev/null; }
commit() { in_git rev-parse HEAD || echo unknown; }
# epoch exports the date of all that is built: the commit's, so that two builds are equal.
epoch() { export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(in_git log -1 --format=%ct || echo 0)}; }

# build FILE makes the program.
build() {
  epoch
  local stamp="-X main.buildVersion=$(in_git describe --tags --always --dirty) -X main.buildCommit=$(in_git rev-parse HEAD)"
  stamp+=" -X main.buildDate=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)"
  # HTTP/2, which nothing here speaks, would be 0.4 MB more in memory.
  go build -trimpath -tags nethttpomithttp2 -ldflags "-s -w $stamp" -o "$1" ./cmd/anode
}
