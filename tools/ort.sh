#!/usr/bin/env bash
# Fetches ONNX Runtime's shared library into the user's cache, where leafserve looks for it, and prints its folder.
# usage: tools/ort.sh [cpu|cuda]
#
# The package comes by pip, or by npm where there is no pip. Every library is checked against its SHA-256 (the same
# table as in ort/library.go) before it is put in place; what is there already and right is not fetched again.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

flavour=${1:-cpu}
version=1.24.4
npm_version=1.24.3 # the last 1.24 there
platform=$(uname -s)/$(uname -m)

# libraries: lines of NAME SHA256. The last one is what leafserve loads; the others it finds beside it.
case $flavour:$platform in
cpu:Linux/x86_64)
	package=onnxruntime wheel=manylinux_2_28_x86_64
	libraries='libonnxruntime.so.1.24.4 2d518e11c7767f9fdc4413bdbeb45acf30db504ff76a82fc19d9238a3f9f6c24'
	npm_folder=linux/x64
	npm_library='libonnxruntime.so.1 92ba8e44d31b80a34f5e805076a044122c3be1fffe0d88ed790de7267b0b2682'
	;;
cpu:Linux/aarch64)
	package=onnxruntime wheel=manylinux_2_28_aarch64
	libraries='libonnxruntime.so.1.24.4 f373ae5fd4d878ed17ebea26e5480bd3d0a15e3bd6bc94b878e6c1b73998d22a'
	npm_folder=linux/arm64
	npm_library='libonnxruntime.so.1 33032cb5b91c12edbf028d7c69fa40a31848d66c0095448758af237d5e0b07db'
	;;
cpu:Darwin/arm64)
	package=onnxruntime wheel=macosx_14_0_arm64
	libraries='libonnxruntime.1.24.4.dylib f7a4418c1fbbb12705f26991c52cd9e4a90c54d4802c487d0facb20897790fe9'
	npm_folder=darwin/arm64
	npm_library='libonnxruntime.1.24.3.dylib 76831409ce6eded92b4cb343cf422c458a60c1ea1d5f3cfa69692ab7fcc67f0f'
	;;
cuda:Linux/x86_64)
	package=onnxruntime-gpu wheel=manylinux_2_28_x86_64
	libraries='libonnxruntime_providers_shared.so 086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d
libonnxruntime_providers_cuda.so 3c4645a1f7c9b687b5480b8bd6235311b139b657a7ebee19f95c7340efac1c76
libonnxruntime.so.1.24.4 b10825f4306b01a4951c528554f2495c4597080c63637b300669544d9c142e76'
	npm_library=''
	;;
*) die "there is no ONNX Runtime $version ($flavour) for $platform: build one, 1.24 or newer, and set LEAFSERVE_ORT_LIB to its library" ;;
esac

cache=$(cache_dir)/ort
dest=$cache/$version-$flavour
npm_dest=$cache/$npm_version-$flavour

# all_verified FOLDER LIBRARIES: whether FOLDER holds every library, undamaged.
all_verified() {
	local name sum
	while read -r name sum; do
		verified "$1/$name" "$sum" || return 1
	done <<<"$2"
}

# place_all FROM FOLDER LIBRARIES: check the fetched libraries and put them into FOLDER.
place_all() {
	local name sum
	all_verified "$1" "$3" || die "what was fetched is not ONNX Runtime's published library (its SHA-256 is wrong): try again, and do not use it"
	while read -r name sum; do
		place "$1/$name" "$2/$name"
	done <<<"$3"
}

fetch_by_pip() {
	python3 -m pip --version >/dev/null 2>&1 || return 1
	say "fetching $package $version by pip (17 MB; cuda: 250 MB)"
	python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--python-version 3.11 --platform "$wheel" --dest "$tmp" "$package==$version" >&2 || return 1
	python3 -m zipfile -e "$tmp"/*.whl "$tmp/wheel"
	local notice
	for notice in LICENSE ThirdPartyNotices.txt; do
		place "$tmp/wheel/onnxruntime/$notice" "$dest/$notice"
	done
	place_all "$tmp/wheel/onnxruntime/capi" "$dest" "$libraries"
}

fetch_by_npm() {
	[ -n "$npm_library" ] && have npm || return 1
	say "fetching onnxruntime-node $npm_version by npm (86 MB)"
	(cd "$tmp" && npm pack --silent "onnxruntime-node@$npm_version" >/dev/null) || return 1
	tar -xzf "$tmp/onnxruntime-node-$npm_version.tgz" -C "$tmp"
	place_all "$tmp/package/bin/napi-v6/$npm_folder" "$npm_dest" "$npm_library"
	dest=$npm_dest
}

advise_cuda() {
	local lib missing=''
	for lib in libcublasLt.so.12 libcudnn.so.9 libcufft.so.11 libcurand.so.10; do
		PATH=$PATH:/sbin ldconfig -p 2>/dev/null | grep -q "$lib" || missing="$missing $lib"
	done
	[ -z "$missing" ] && return
	say "the CUDA provider also needs$missing, of CUDA 12 and cuDNN 9, which the loader does not find here. One way:"
	say "  python3 -m pip install --target '$dest/nvidia' nvidia-cuda-runtime-cu12 nvidia-cublas-cu12 nvidia-cudnn-cu12 nvidia-cufft-cu12 nvidia-curand-cu12 nvidia-cuda-nvrtc-cu12"
	say "  export LD_LIBRARY_PATH=\$(printf '%s:' '$dest'/nvidia/nvidia/*/lib)"
}

if [ -n "$npm_library" ] && all_verified "$npm_dest" "$npm_library" && [ ! -e "$dest" ]; then
	dest=$npm_dest
elif ! all_verified "$dest" "$libraries"; then
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/.fetch-XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	fetch_by_pip || fetch_by_npm ||
		die "ONNX Runtime $version ($flavour) could not be fetched: install pip (apt-get install python3-pip) or npm, or set LEAFSERVE_ORT_LIB to a library of your own"
fi
[ "$flavour" = cpu ] || advise_cuda
printf '%s\n' "$dest"
