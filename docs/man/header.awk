# SPDX-License-Identifier: Apache-2.0
# include/wisp.h as the body of a man page: comments between declarations are paragraphs, the rest is shown as it is.

function escape(s) {
	gsub(/\\/, "\\e", s)
	gsub(/-/, "\\-", s)
	if (s ~ /^[.']/)
		s = "\\&" s
	return s
}
function code(on) {
	if (on && !shown)
		print ".PP\n.nf\n.RS"
	else if (!on && shown)
		print ".RE\n.fi"
	shown = on
}
# A comment's line: an empty one parts paragraphs, one with a tab is an example, a line that ends with a dot and is short
# is a heading.
function prose(s) {
	if (s == "") {
		code(0)
		print ".PP"
	} else if (s ~ /^\t/) {
		code(1)
		print escape(substr(s, 2))
	} else {
		code(0)
		print escape(s)
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
{ code(1); sub(/^WISP_API /, ""); print escape($0) }
END { code(0) }
