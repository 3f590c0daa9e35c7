# The base kernel: a Debian source package, pinned. Another version is never taken by
# itself: see lab/base.sh. KERNEL=/path/to/linux takes a tree of yours.
BASE_PACKAGE = linux-source-7.3
BASE_VERSION = 7.3.4-1~bpo13+1
# of the tar.xz in the package
BASE_SHA256  = 76df1affb19f24926949369be1d74b60071c963c598ce8780bddd4bbf0fc3bc4
