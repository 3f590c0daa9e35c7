# The source package: its orig tarball, which is Linux's own, is all that is left of it.
BASE_PACKAGE = linux
BASE_VERSION = 6.18.15-1~bpo13+1
BASE_SUITE   = trixie-backports
BASE_SHA256  = fdf4c4d487c95b17a41cb38003faef86669e532a44fe702eb31a3390b6a60cca
