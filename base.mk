# The base kernel: a Debian package, pinned. Another version is never taken by itself: see
# lab/base.sh. BASE=6.12 takes that of ports/6.12/base.mk, KERNEL=/path/to/linux a tree of yours.
BASE_PACKAGE = linux-source-7.3
BASE_VERSION = 7.3.4-1~bpo13+1
BASE_SUITE   = trixie-backports
# of the tar.xz in the package
BASE_SHA256  = 76df1affb19f24926949369be1d74b60071c963c598ce8780bddd4bbf0fc3bc4
