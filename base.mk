# The base kernel: a Debian source package, pinned.
# When this version is gone from the mirror, the newest of the same series is
# taken instead, and said so. KERNEL=/path/to/linux uses a git tree of yours.
BASE_PACKAGE = linux-source-7.3
BASE_VERSION = 7.3.4-1~bpo13+1
# of the tar.xz in the package
BASE_SHA256  = 76df1affb19f24926949369be1d74b60071c963c598ce8780bddd4bbf0fc3bc4
