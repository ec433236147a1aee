# Helpers of the scripts in this folder; bash sources it.

say() { printf '%s\n' "$*" >&2; }

die() {
	say "error: $*"
	exit 1
}

# have COMMAND: whether it can be run.
have() { command -v "$1" >/dev/null 2>&1; }

# need COMMAND ADVICE: stop with one sentence unless COMMAND can be run.
need() { have "$1" || die "$1 is missing: $2"; }

# cache_dir: where Go's os.UserCacheDir points, so that the program looks where these scripts write.
cache_dir() {
	[ -n "${HOME:-}${XDG_CACHE_HOME:-}" ] || die "neither HOME nor XDG_CACHE_HOME is set: set one, fetched files are kept below it"
	case $(uname -s) in
	Darwin) printf '%s\n' "$HOME/Library/Caches/leafserve" ;;
	*) printf '%s\n' "${XDG_CACHE_HOME:-$HOME/.cache}/leafserve" ;;
	esac
}

# verified FILE SHA256: whether FILE is there and is the published one.
verified() {
	[ -f "$1" ] || return 1
	local sum
	if have sha256sum; then sum=$(sha256sum <"$1"); else sum=$(shasum -a 256 <"$1"); fi
	[ "${sum%% *}" = "$2" ]
}

# place FILE DEST: put FILE at DEST in one step; both are on one file system.
place() {
	chmod 644 "$1"
	mkdir -p "$(dirname "$2")"
	mv -f "$1" "$2"
}

need_go() { need go "install Go $(awk '$1 == "go" { print $2 }' go.mod) or newer and put it on PATH"; }

# need_cc: the one package with native code behind it is compiled by cgo.
need_cc() {
	have "${CC:-gcc}" || have clang || die "a C compiler is missing: apt-get install gcc libc6-dev (macOS: xcode-select --install)"
}
