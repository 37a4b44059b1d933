# Sourced by the scripts beside it: messages, root, tools, Go.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$PWD

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

need_root() {
  [ "$(id -u)" = 0 ] || die "this makes network namespaces, which needs root; try: sudo $0"
  [ -c /dev/net/tun ] || modprobe tun 2>/dev/null || die "there is no /dev/net/tun; try: modprobe tun"
}

# need TOOL:PACKAGE... installs the Debian packages whose tools are missing.
need() {
  local missing=() t
  for t in "$@"; do command -v "${t%%:*}" >/dev/null || missing+=("${t##*:}"); done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "please install: ${missing[*]}"
  echo "installing: ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"; } >/dev/null 2>&1 ||
    die "apt-get could not install: ${missing[*]}"
  for t in "$@"; do command -v "${t%%:*}" >/dev/null || die "there is still no ${t%%:*}, and ${t##*:} is installed"; done
}

# need_go finds Go, which sudo often takes off the PATH.
need_go() {
  command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin:$HOME/go/bin
  command -v go >/dev/null || die "Go is not installed; see https://go.dev/dl"
  export PATH GOFLAGS="${GOFLAGS:-} -buildvcs=false" CGO_ENABLED="${CGO_ENABLED:-0}"
}

# stamp sets version, commit and date (of the commit, so that two builds are equal).
stamp() {
  version=$(git -C "$root" describe --tags --always --dirty 2>/dev/null) || version=
  commit=$(git -C "$root" rev-parse HEAD 2>/dev/null) || commit=
  export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
  date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
}

# build FILE makes the program.
build() {
  local version commit date
  stamp
  go build -trimpath -ldflags "-s -w -X main.buildVersion=$version -X main.buildCommit=$commit -X main.buildDate=$date" -o "$1" ./cmd/anode
}
