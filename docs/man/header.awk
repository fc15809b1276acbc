# SPDX-License-Identifier: Apache-2.0
# include/wisp.h as the body of a man page: comments between declarations become paragraphs. Declarations are broken so
# that they fit a terminal of 80 columns.

BEGIN { width = 71 }

function escape(s) {
	gsub(/\\/, "\\e", s)
	gsub(/-/, "\\-", s)
	gsub(/\001/, " ", s)
	if (s ~ /^[.']/)
		s = "\\&" s
	return s
}
function code(on) {
	if (on && !shown)
		print ".PP\n.nf\n.RS 2"
	else if (!on && shown)
		print ".RE\n.fi"
	shown = on
}
# A line of a comment: an empty one separates paragraphs, and one that begins with a tab is an example.
function prose(s) {
	if (s == "") {
		code(0)
		print ".PP"
	} else if (s ~ /^\t/) {
		code(1)
		declare(substr(s, 2))
	} else {
		code(0)
		print escape(s)
	}
}

function trim(s) {
	gsub(/^[ \t]+|[ \t]+$/, "", s)
	sub(/^\* /, "", s)
	return s
}
# A line that ends inside a comment or a list of parameters goes on in the next one.
function is_whole(s, opened, closed) {
	opened = gsub(/\/\*/, "&", s)
	closed = gsub(/\*\//, "&", s)
	if (opened > closed)
		return 0
	sub(/\/\*.*/, "", s)
	return gsub(/\(/, "&", s) <= gsub(/\)/, "&", s)
}
# Words, broken to fit, with `first` before the first line and `rest` before the others.
function wrap(text, first, rest, word, count, i, line) {
	count = split(text, word, " ")
	line = first word[1]
	for (i = 2; i <= count; i++) {
		if (length(line " " word[i]) <= width) {
			line = line " " word[i]
		} else {
			print escape(line)
			line = rest word[i]
		}
	}
	print escape(line)
}
# A comment that makes its line too long goes before it.
function declare(line, at, comment, indent) {
	gsub(/\t/, "    ", line)
	sub(/\( /, "(", line)
	sub(/ +\/\*/, line ~ /^ *\/\*/ ? "&" : " /*", line)
	if (length(line) <= width) {
		print escape(line)
		return
	}
	match(line, /^ */)
	indent = substr(line, 1, RLENGTH)
	if (at = index(line, "/*")) {
		comment = substr(line, at)
		wrap(comment, indent, indent "   ")
		line = substr(line, 1, at - 1)
		sub(/ +$/, "", line)
	}
	if (line ~ /[^ ]/) {
		# Between parameters only.
		line = trim(line)
		gsub(/ /, "\001", line)
		gsub(/,\001/, ", ", line)
		wrap(line, indent, indent "    ")
	}
}

/^#ifndef WISP_H/ { skip = 1 }
/^#define WISP_API/ { skip = 0; next }
NR == 1 || skip { next }
/^#ifdef __cplusplus/ { skip = 1; code(0); next }

/^\/\* ---- .* ---/ {
	code(0)
	gsub(/^\/\* -+ | -+ \*\/$/, "")
	print ".SH " toupper($0)
	next
}
/^\/\*$/ { inside = 1; code(0); print ".PP"; next }
inside && /^ \*\/$/ { inside = 0; next }
inside { sub(/^ \* ?/, ""); prose($0); next }
/^\/\* .* \*\/$/ { code(0); print ".PP"; gsub(/^\/\* | \*\/$/, ""); print escape($0); next }

/^$/ { next }
{
	sub(/^WISP_API /, "")
	whole = whole == "" ? $0 : whole " " trim($0)
	if (is_whole(whole)) {
		if (shown && (whole ~ /^(struct|enum) .*\{$/ || last == "};"))
			print ""
		code(1)
		declare(whole)
		last = whole
		whole = ""
	}
}
END { code(0) }
