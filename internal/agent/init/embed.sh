#!/bin/sh
# Usage: embed.sh AGENT OUT PAGE. Writes OUT.S and OUT.ld, with which the linker puts the
# segments of the static program AGENT at their addresses into another program, which
# must end before them. So the kernel maps both from one file. PAGE is the largest page
# of a kernel, in bytes.
set -eu
agent=$1
out=$2
page=$3
entry=$(LC_ALL=C readelf -hW "$agent" | sed -n 's/.*Entry point address: *//p')
LC_ALL=C readelf -lW "$agent" | awk -v agent="$agent" -v entry="$entry" -v asm="$out.S" -v script="$out.ld" -v page="$page" '
	BEGIN {
		print "SECTIONS\n{" > script
		print "\tprogram_start = __executable_start;" > script
	}
	$1 == "LOAD" {
		offset = $2; address = $3; in_file = $5; in_memory = $6
		flags = "a"
		for (i = 7; i < NF; i++) flags = flags ($i ~ /W/ ? "w" : "") ($i ~ /E/ ? "x" : "")
		if (n == 0) {
			printf "\tprogram_end = %s - %s;\n", address, page > script
			printf "\t.agent.enter %s - %s : { *(.agent.enter) }\n", address, page > script
		}
		# Whole pages: of a last one that is cut, the kernel would make each process a
		# copy, to clear its end.
		printf ".section .agent%d, \"%s\", @progbits\n.incbin \"%s\", %s, %s\n", n, flags, agent,
			offset, in_file > asm
		printf ".skip ((%s + %s - 1) & ~(%s - 1)) - %s\n", in_file, page, page, in_file > asm
		printf "\t.agent%d %s : { KEEP(*(.agent%d)) }\n", n, address, n > script
		if (in_memory != in_file) {
			printf ".section .agent%d.zero, \"aw\", @nobits\n", n > asm
			printf ".skip (%s + %s) - ((%s + %s + %s - 1) & ~(%s - 1))\n", address, in_memory, address, in_file, page, page > asm
			printf "\t.agent%d.zero : { KEEP(*(.agent%d.zero)) }\n", n, n > script
		}
		n++
	}
	END {
		printf "\tagent_entry = %s;\n}\nINSERT AFTER .bss;\n", entry > script
		print ".section .note.GNU-stack, \"\", @progbits" > asm
		exit n == 0
	}'
