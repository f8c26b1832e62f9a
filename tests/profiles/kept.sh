# For build scripts. What they make is kept in the user's cache, and a link leads to it: all clones of the project have
# the same, and boots of it come from the boot cache in a new one, too.

# find_kept LINK NAME FILE...: fails if the directory NAME that is made of these files is there, and LINK leads to it
# now. Else it is to be made in the directory $new, and kept by keep.
find_kept() {
	kept_link=$1 kept=${XDG_CACHE_HOME:-$HOME/.cache}/provium/test-trees/$2
	shift 2
	kept=$kept-$(cat "$@" | cksum | tr ' ' -)
	if [ -e "$kept" ]; then
		link_kept
		return 1
	fi
	mkdir -p "${kept%/*}"
	new=$(mktemp -d "$kept.XXXXXX")
	chmod 755 "$new"
}

keep() {
	mv -T "$new" "$kept" 2>/dev/null || rm -rf "$new" # another build was faster
	link_kept
}

link_kept() {
	[ -h "$kept_link" ] || rm -rf "$kept_link"
	ln -sfn "$kept" "$kept_link"
	echo "$kept" >"${kept_link%/*}/stamp"
}
