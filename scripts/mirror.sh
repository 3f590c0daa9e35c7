#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Print the Debian mirror to use: DEBIAN_MIRROR, or the one this host's apt uses.
# Nothing when neither is known: then mmdebstrap takes its own default.
if [ -n "${DEBIAN_MIRROR:-}" ]; then
	echo "${DEBIAN_MIRROR%/}"
elif command -v apt-get >/dev/null; then
	apt-get indextargets --format '$(REPO_URI)' \
		'Created-By: Packages' 'Origin: Debian' 'Label: Debian' \
		2>/dev/null | head -n 1 | sed 's#/*$##'
fi
