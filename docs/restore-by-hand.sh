#!/usr/bin/env bash
# Restores from a snapd repository without snapd: with a bucket client (or a
# copy of the bucket in a directory), minisign, sha256sum, age, zstd, jq, and
# the storage's own receive. docs/FORMAT.md describes what it reads.
#
#   restore-by-hand.sh points  STORE SIGNER [IDENTITY]
#       lists the restore points and their streams; with the identity also
#       the names of groups and datasets
#   restore-by-hand.sh receive STORE SIGNER IDENTITY STREAM TARGET
#       receives the chain of a stream: into the folder TARGET with
#       `btrfs receive`, or into the dataset TARGET with `zfs receive`
#   restore-by-hand.sh extract STORE SIGNER IDENTITY STREAM FOLDER
#       writes the chain as files into FOLDER instead, one for each stream, to
#       be received elsewhere in the order of their names; those of LVM by
#       lvm-apply.py, which lies beside this script
#
# STORE     dir:/path          a directory, or a copy of the bucket in one
#           mc:ALIAS/BUCKET/PREFIX, rclone:REMOTE:BUCKET/PREFIX,
#           s3cmd:s3://BUCKET/PREFIX, aws:s3://BUCKET/PREFIX
# SIGNER    the public key of the host that wrote it ("RW…"), from the
#           recovery kit. One found in the bucket would prove nothing.
# AVOID     (in the environment) ids of streams that are damaged: another one of
#           the same dataset that makes the same snapshot is used where there is
#           one; so it is where the manifest of a base is missing
# IDENTITY  the file with age's private key, from the recovery kit; "none" for
#           a repository that is not encrypted
#
# Nothing is handed to a receive that was not checked: the signature of every
# manifest, the digest and length of every segment, its encryption, and the length
# of what was in it.
set -euo pipefail
export LC_ALL=C

fail() {
	echo "restore-by-hand: $*" >&2
	exit 1
}

usage() {
	sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
	exit 2
}

# --- the store -------------------------------------------------------------

# get KEY FILE: fetches one object.
get() {
	case $store in
	dir:*) cat -- "${store#dir:}/$1" >"$2" ;;
	mc:*) mc cat "${store#mc:}/$1" >"$2" ;;
	rclone:*) rclone cat "${store#rclone:}/$1" >"$2" ;;
	s3cmd:*) s3cmd get --quiet --force "${store#s3cmd:}/$1" "$2" ;;
	aws:*) aws s3 cp --quiet "${store#aws:}/$1" "$2" ;;
	*) fail "unknown kind of store: $store" ;;
	esac || fail "cannot fetch $1 from $store"
}

# names FOLDER: lists the names of the objects in a folder, ascending.
names() {
	case $store in
	dir:*) find "${store#dir:}/$1" -mindepth 1 -maxdepth 1 -type f -printf '%f\n' ;;
	mc:*) mc ls --json "${store#mc:}/$1/" | jq -r '.key' ;;
	rclone:*) rclone lsf --files-only "${store#rclone:}/$1" ;;
	s3cmd:*) s3cmd ls "${store#s3cmd:}/$1/" | sed 's|.*/||' ;;
	aws:*) aws s3 ls "${store#aws:}/$1/" | sed 's/.* //' ;;
	esac | sort
}

# --- signed objects --------------------------------------------------------

# signed TYPE NAME KEY FILE: fetches an object and checks who signed it, that
# it is of this type, and that it lies where it was put. FILE gets the JSON.
signed() {
	local type=$1 name=$2 key=$3 file=$4 comment
	get "$key" "$work/object"
	head -n 4 "$work/object" >"$work/signature"
	tail -n +5 "$work/object" >"$file"
	[[ $(head -n 1 "$work/signature") =~ ^"untrusted comment: snapd repository format "[12]": $type"$ ]] ||
		fail "$key is not a $type of format 1 or 2"
	comment=$(minisign -V -Q -P "$signer" -m "$file" -x "$work/signature") ||
		fail "$key: the signature does not verify: it is damaged, or was signed with another key"
	if [[ $type == repository ]]; then
		repository=$(jq -r .repository "$file")
	fi
	[[ $comment == "$repository $name" ]] || fail "$key was signed for \"$comment\""
}

# --- segments --------------------------------------------------------------

# opened FILE: what an object holds, decrypted and decompressed.
opened() {
	if [[ $identity == none ]]; then
		zstd -dcq -- "$1"
	else
		age -d -i "$identity" -- "$1" | zstd -dcq
	fi
}

# rows STREAM MANIFEST: one line "digest plain-bytes stored-bytes" for each
# segment, in order.
rows() {
	local k=0 digest key
	while read -r digest; do
		key=$(printf 'data/%s/part-%05d' "$1" "$k")
		signed part "$key" "$key-${digest:0:16}" "$work/part"
		[[ $(sha256sum <"$work/object") == "$digest  -" ]] || fail "$key: it is not the part that the manifest names"
		jq -r '.rows[] | "\(.[0]) \(.[1]) \(.[2])"' "$work/part"
		k=$((k + 1))
	done < <(jq -r '.parts[].sha256' "$2")
	jq -r '.rows[] | "\(.[0]) \(.[1]) \(.[2])"' "$2"
}

# plain STREAM MANIFEST: the stream on standard output. Each segment is
# checked before a byte of it leaves.
plain() {
	local n=0 total=0 digest bytes stored key
	rows "$1" "$2" >"$work/rows"
	while read -r digest bytes stored; do
		key=$(printf 'data/%s/%08d-%s' "$1" "$n" "${digest:0:16}")
		get "$key" "$work/segment"
		[[ $(stat -c %s "$work/segment") == "$stored" ]] || fail "$key has not the signed length"
		[[ $(sha256sum <"$work/segment") == "$digest  -" ]] || fail "$key is damaged: its SHA-256 is not the signed one"
		opened "$work/segment" | head -c "$((bytes + 1))" >"$work/plain" || fail "$key cannot be opened: is this the right identity?"
		[[ $(stat -c %s "$work/plain") == "$bytes" ]] || fail "$key holds not the signed length"
		cat "$work/plain" || fail "cannot write the stream"
		n=$((n + 1))
		total=$((total + bytes))
	done <"$work/rows"
	[[ $n == "$(jq .segments "$2")" && $total == "$(jq .sent_bytes "$2")" ]] || fail "stream $1 is not complete"
}

# --- commands --------------------------------------------------------------

points() {
	local name
	while read -r name; do
		signed point "meta/points/$name" "meta/points/$name" "$work/point"
		jq -r '"point \(.point)  number \(.number)  \(.time)  \(.consistency)  window \(.window_us) us",
			(.streams[] | "  stream \(.stream)  \(.driver)  \(.sent_bytes) bytes in \(.segments) segments  base \(.base // "none: full")")' "$work/point"
		if [[ -n $identity ]]; then
			jq -r .sealed "$work/point" | base64 -d >"$work/sealed"
			opened "$work/sealed" | jq -r '"  group \(.group) on \(.host)", (.datasets[]? | "  dataset \(.dataset) (origin \(.origin), snapshot \(.guid))"), (.changed[]? | "  changed: \(.item): \(.what) since point \(.since.point)")'
		fi
	done < <(names meta/points)
}

# manifest NAME: fetches and checks the manifest with that name. Called in a
# subshell, so that the script can go on without a bad one.
manifest() {
	local id=${1%%.*}
	[[ " ${AVOID:-} " != *" $id "* ]] || fail "stream $id is to be avoided"
	signed stream "meta/streams/$1" "meta/streams/$1" "$work/manifest-$id"
	[[ $(jq -r .stream "$work/manifest-$id") == "$id" ]] || fail "meta/streams/$1 is not the manifest of $id"
}

# chain STREAM: fills the array streams, the full one first. Of names that
# begin with an id the one counts that verifies. Where a base has none, another
# stream of the same dataset that makes the snapshot takes its place, the
# newest first.
chain() {
	local id=$1 name found guid origin="" above="" all
	streams=()
	all=$(names meta/streams)
	while [[ $id != null ]]; do
		[[ $id =~ ^[0-9a-z]{16}$ ]] || fail "\"$id\" is not a stream's id"
		found=
		while read -r name; do
			[[ -n $name && " ${streams[*]:-} " != *" ${name%%.*} "* ]] || continue
			if (manifest "$name"); then
				found=${name%%.*}
				break
			fi
		done < <(
			grep "^$id\\." <<<"$all" || true
			[[ -z $above ]] || grep "^[0-9a-z]\\{16\\}\\.$origin\\.$above\\." <<<"$all" | grep -v "^$id\\." | sort -r || true
		)
		[[ -n $found ]] || fail "stream $id is not in the repository, and nothing takes its place"
		[[ $found == "$id" ]] || echo "stream $found takes the place of $id" >&2
		id=$found
		guid=$(jq -r .guid "$work/manifest-$id")
		[[ -z $above || $above == "$guid" && $origin == "$(jq -r .origin "$work/manifest-$id")" ]] ||
			fail "stream $id makes snapshot $guid, but $above is needed"
		above=$(jq -r '.base_guid // ""' "$work/manifest-$id")
		origin=$(jq -r .origin "$work/manifest-$id")
		streams=("$id" "${streams[@]}")
		[[ ${#streams[@]} -lt 10000 ]] || fail "the chain has no end"
		id=$(jq -r .base "$work/manifest-$id")
	done
}

restore() {
	local command=$1 target=$3 id driver n=0
	chain "$2"
	for id in "${streams[@]}"; do
		driver=$(jq -r .driver "$work/manifest-$id")
		echo "stream $id: $(jq -r '"\(.sent_bytes) bytes, makes snapshot \(.guid)"' "$work/manifest-$id")" >&2
		case $command,$driver in
		extract,*) plain "$id" "$work/manifest-$id" >"$(printf '%s/%04d-%s.%s' "$target" "$n" "$id" "$driver")" ;;
		# A stream that breaks off is no success of the pipe (pipefail), and
		# receive leaves a subvolume behind that is not read-only.
		receive,btrfs) plain "$id" "$work/manifest-$id" | btrfs receive -e -- "$target" ;;
		receive,zfs) plain "$id" "$work/manifest-$id" | zfs receive -u -x mountpoint -- "$target" ;;
		*) fail "no receive is known for driver $driver: use extract" ;;
		esac || fail "stream $id was not received: remove what it left in $target"
		n=$((n + 1))
	done
	echo "done: ${#streams[@]} streams" >&2
}

[[ $# -ge 3 ]] || usage
command=$1 store=${2%/} signer=$3 identity=${4:-} repository=
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

signed repository repository repository "$work/repository"
if [[ $(jq -r .encryption "$work/repository") == none ]]; then
	[[ $command == points ]] || [[ $identity == none ]] || fail "this repository is not encrypted: give \"none\" as IDENTITY"
	identity=none
fi
case $command,$# in
points,3 | points,4) points ;;
receive,6 | extract,6) restore "$command" "$5" "$6" ;;
*) usage ;;
esac
