#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Write what the repository shows of the tree. Runs in the build root.
#	series.sh BUILD [OUT]
#  fixes/    base..fixes, each a mail of its own
#  patches/  fixes..series, with a cover letter
#  arch/ Documentation/ include/ mm/ tools/ MAINTAINERS.diff   the view: a file that the
#            series adds, whole; of a file that it changes the hunks, as FILE.diff
# Of a version that has a folder in ports/ it writes there, and only the mails that say or
# change something else than those whose place they take.
# Without OUT they are replaced, where anything differs. The same tree gives the same
# bytes: all options are fixed, and the letter keeps its date and sender.
set -eu
. lab/env.sh
linux=$1/linux
out=${2:-}
cover=patches/0000-cover-letter.patch
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
git="git -C $linux"
[ -e "$linux/.git/vfr-base" ] || die "no tree yet: make tree"
[ -e "$cover" ] || die "$cover is missing: take it back (git checkout patches)"
[ ! -d "$linux/.git/rebase-apply" ] && [ ! -d "$linux/.git/rebase-merge" ] ||
	die "a rebase or am is in progress in $linux: finish or abort it first"
$git merge-base --is-ancestor base fixes && $git merge-base --is-ancestor fixes series ||
	die "branch fixes of $linux is not between base and series: rebase series onto it, or" \
		"git -C $linux branch -f fixes COMMIT (the last of fixes/)"
port=$(port_of "$linux")
if [ -z "$out" ]; then
	[ -z "$($git status --porcelain -uno | head -n 1)" ] ||
		die "$linux has uncommitted changes: commit them" \
			"(git commit --fixup ..., git rebase -i --autosquash base)"
	# A tree with half of the patches never replaces all of them.
	for pair in fixes:base..fixes patches:fixes..series; do
		have=$($git rev-list --count "${pair#*:}")
		want=$(mails "${pair%%:*}" | wc -l)
		[ "$have" -ge "$want" ] ||
			die "${pair%%:*}/ has $want patches, and $linux only $have commits" \
				"(${pair#*:}): make tree applies the rest; if you dropped a patch," \
				"remove its file first${port:+, or name it in $port/dropped}"
	done
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
git mailinfo /dev/null /dev/null < "$cover" > "$tmp/.letter"
GIT_COMMITTER_NAME=$(sed -n 's/^Author: //p' "$tmp/.letter")
GIT_COMMITTER_EMAIL=$(sed -n 's/^Email: //p' "$tmp/.letter")
GIT_COMMITTER_DATE=$(sed -n 's/^Date: //p' "$tmp/.letter")
rm "$tmp/.letter"
export GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_COMMITTER_DATE
same="--no-renames --diff-algorithm=myers --abbrev=12 --src-prefix=a/ --dst-prefix=b/"

# write_mails FOLDER COMMITS OPTION...
write_mails() {
	folder=$1 commits=$2
	shift 2
	# shellcheck disable=SC2086
	$git -c core.abbrev=12 format-patch -q "$@" $same --stat=76 --zero-commit --no-signature \
		--no-base --no-attach --no-thread --no-notes -o "$tmp/$folder" "$commits"
}

# what MAIL: its text and its change; line numbers do not count.
what() {
	git mailinfo /dev/stdout /dev/null < "$1"
	git patch-id --stable < "$1" | cut -d' ' -f1
}

# changed KIND: the files that the series adds (A) or changes (M).
changed() {
	$git diff --name-only --no-renames --diff-filter="$1" fixes series
}

if [ "$port" ]; then
	write_mails all base..series --no-numbered --subject-prefix="PATCH ${port#*/}" --no-cover-letter
	mkdir -p "$tmp/$port"
	for mail in "$tmp"/all/*; do
		old=$(find fixes patches -maxdepth 1 -name "????-${mail##*/????-}")
		[ "$old" ] || die "${mail##*/}: no such name in fixes/ or patches/: keep the subject"
		[ "$(what "$mail")" != "$(what "$old")" ] || continue
		mkdir -p "$tmp/$port/${old%/*}"
		cp "$mail" "$tmp/$port/$old"
	done
	rm -r "$tmp/all"
else
	write_mails fixes base..fixes --no-numbered --subject-prefix=PATCH --no-cover-letter
	write_mails patches fixes..series --numbered --rfc --cover-letter \
		--cover-from-description=subject
	changed A | (cd "$linux" && xargs -r git archive series --) | tar -C "$tmp" -x
	for file in $(changed M); do
		mkdir -p "$tmp/$(dirname "$file")"
		# shellcheck disable=SC2086
		$git diff $same fixes series -- "$file" > "$tmp/$file.diff"
	done
fi

if [ -n "$out" ]; then
	cp -r "$tmp/." "$out"
	exit 0
fi
# Whole files take the place of old ones, so that one killed run leaves no half of a patch.
set -- 'fixes/***' 'patches/***' 'arch/***' 'Documentation/***' 'include/***' 'mm/***' 'tools/***' \
	MAINTAINERS.diff
[ -z "$port" ] || set -- ports/ "$port/" "$port/fixes/***" "$port/patches/***"
printf '+ /%s\n' "$@" | sed '1i- /fixes/reported' | sed '$a- *' |
	rsync -rcE --delete-after --out-format='@ %n: written' --filter='merge -' "$tmp/" .
echo "$(patches_id) $($git rev-parse series)" > "$linux/.git/vfr-patches"
