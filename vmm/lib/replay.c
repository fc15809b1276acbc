/* SPDX-License-Identifier: Apache-2.0 */
/* The sequences are from ECMA-48, DEC's terminals, xterm's "ctlseqs", kitty and iTerm2. */
#include "vmm/lib/replay.h"

#include <string.h>

#define ESC 0x1b
#define BEL 0x07
#define ENQ 0x05 /* asks for the answerback message */
#define CAN 0x18
#define SUB 0x1a

enum verdict {
	INCOMPLETE,
	HARMLESS,
	QUERY,
	BROKEN, /* the sequence ends before this byte */
};

/* ---- Queries ---- */

/* `text`: the bytes after ESC [, with the final byte. */
static bool asks_csi(const uint8_t *text, size_t length)
{
	uint8_t final = text[length - 1], prefix = 0, intermediate = 0;
	unsigned number = 0, parameters = 0;
	for (size_t i = 0; i + 1 < length; i++) { /* control characters inside a sequence do not end it */
		if (text[i] >= '<' && text[i] <= '?')
			prefix = text[i];
		else if (text[i] == ';' || text[i] == ':')
			parameters++;
		else if (text[i] >= '0' && parameters == 0 && number < 1000)
			number = number * 10 + text[i] - '0';
		else if (text[i] >= ' ' && text[i] <= '/')
			intermediate = text[i];
	}
	switch (intermediate) {
	case 0: break;
	case '$': return final == 'p' || final == 'u' || final == 'w'; /* DECRQM, DECRQTSR, DECRQPSR */
	case '*': return final == 'y';                                 /* DECRQCRA */
	case '&': return final == 'u';                                 /* DECRQUPSS */
	case '#': return final == '|' || final == 'R';                 /* XTREPORTSGR, XTREPORTCOLORS */
	case '\'': return final == '|';                                /* DECRQLP */
	default: return false;
	}
	switch (final) {
	case 'c': return prefix != '?'; /* DA1 to DA3 */
	case 'n': return prefix != '>'; /* DSR */
	case 'q': return prefix == '>'; /* XTVERSION */
	case 'm':                       /* XTQMODKEYS */
	case 'u':                       /* kitty's keyboard */
	case 'S': return prefix == '?'; /* XTSMGRAPHICS */
	case 'x': return !prefix;       /* DECREQTPARM */
	case 't':                       /* XTWINOPS */
		return !prefix && (number == 11 || (number >= 13 && number <= 16) || (number >= 18 && number <= 21));
	default: return false;
	}
}

static bool begins(const uint8_t *text, size_t length, const char *with)
{
	return length >= strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

static bool has(const uint8_t *text, size_t length, const char *what)
{
	return memmem(text, length, what, strlen(what)) != NULL;
}

/* `text`: the bytes between ESC ] and the terminator. */
static bool asks_osc(const uint8_t *text, size_t length)
{
	static const char *const words[] = {"0;", "1;", "2;", "7;", "8;", "9;", "777;"};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (begins(text, length,
		            words[i])) /* titles, links and notifications are text, whatever they contain */
			return false;
	}
	if (begins(text, length, "1337;"))
		return has(text, length, ";Report") || has(text, length, ";Capabilities");
	if (begins(text, length, "99;")) /* kitty's notifications */
		return has(text, length, "p=?");
	if (begins(text, length, "21;")) /* kitty's colours */
		return has(text, length, "=?");
	/* A parameter that is a question mark, as in "10;?", "4;1;?" and "52;c;?"; or begins with one: kitty's
	 * pointers. */
	return has(text, length, ";?");
}

/* The bytes between ESC P and the terminator: DECRQSS, XTGETTCAP, XTGETXRES. */
static bool asks_dcs(const uint8_t *text, size_t length)
{
	return begins(text, length, "$q") || begins(text, length, "+q") || begins(text, length, "+Q");
}

/* The bytes between ESC _ and the terminator: a query of kitty's graphics. */
static bool asks_apc(const uint8_t *text, size_t length)
{
	const uint8_t *data = memchr(text, ';', length);
	size_t head = data ? (size_t)(data - text) : length;
	return begins(text, length, "G") && has(text, head, "a=q");
}

/* ---- Where a sequence ends ---- */

static enum verdict judge(bool query)
{
	return query ? QUERY : HARMLESS;
}

/* A string ends with ESC \, an operating system command also with BEL. `byte` follows what is held. */
static enum verdict next_of_string(const uint8_t *held, size_t length, uint8_t byte)
{
	const uint8_t *text = held + 2;
	size_t text_length = length - 2;
	bool escaped = text_length > 0 && held[length - 1] == ESC;
	if (byte == CAN || byte == SUB)
		return BROKEN;
	if (escaped && byte != '\\')
		return BROKEN;
	if (!escaped && !(byte == BEL && held[1] == ']'))
		return INCOMPLETE;
	text_length -= escaped;
	switch (held[1]) {
	case ']': return judge(asks_osc(text, text_length));
	case 'P': return judge(asks_dcs(text, text_length));
	case '_': return judge(asks_apc(text, text_length));
	default: return HARMLESS;
	}
}

static bool is_one_of(uint8_t byte, const char *bytes)
{
	return memchr(bytes, byte, strlen(bytes)) != NULL;
}

/* What is held begins with ESC, and `byte` follows its `length` bytes. */
static enum verdict next_of(const uint8_t *held, size_t length, uint8_t byte)
{
	if (length == 1) {
		if (byte == ESC || byte == CAN || byte == SUB)
			return BROKEN;
		if (byte < '0' || is_one_of(byte, "[]P_^X"))
			return INCOMPLETE;
		return judge(byte == 'Z'); /* DECID */
	}
	if (is_one_of(held[1], "]P_^X"))
		return next_of_string(held, length, byte);
	if (byte == ESC || byte == CAN || byte == SUB || byte >= 0x80)
		return BROKEN;
	if (held[1] == '[')
		return byte < '@' || byte == 0x7f ? INCOMPLETE : judge(asks_csi(held + 2, length - 1));
	return byte < '0' ? INCOMPLETE : HARMLESS; /* ESC and intermediate bytes */
}

/* ---- The pieces ---- */

static bool give(struct replay *replay, size_t count, const uint8_t **out, size_t *out_length)
{
	*out = replay->held;
	*out_length = replay->given = count;
	return true;
}

/* Drops what the last call handed out. */
static void take_back(struct replay *replay)
{
	replay->held_length -= replay->given;
	memmove(replay->held, replay->held + replay->given, replay->held_length);
	replay->given = 0;
}

/* Takes the next byte of a sequence. Returns true when it hands something out. */
static bool hold(struct replay *replay, const uint8_t **in, size_t *length, const uint8_t **out, size_t *out_length)
{
	uint8_t byte = **in;
	size_t held = replay->held_length;
	replay->held[held] = byte;
	enum verdict verdict = next_of(replay->held, held, byte);
	if (verdict == BROKEN) {
		/* The ESC that ended the string begins the next sequence. */
		bool begun = held > 1 && replay->held[held - 1] == ESC;
		return give(replay, held - begun, out, out_length);
	}
	(*in)++;
	(*length)--;
	replay->left--;
	replay->held_length = verdict == QUERY ? 0 : held + 1;
	if (verdict == HARMLESS || replay->held_length == REPLAY_HELD_MAX)
		return give(replay, replay->held_length, out, out_length);
	return false;
}

bool replay_next(struct replay *replay, const uint8_t **in, size_t *length, const uint8_t **out, size_t *out_length)
{
	take_back(replay);
	while (*length > 0 && replay->left > 0) {
		if (replay->held_length > 0) {
			if (hold(replay, in, length, out, out_length))
				return true;
			continue;
		}
		size_t run = 0, most = *length < replay->left ? *length : (size_t)replay->left;
		while (run < most && (*in)[run] != ESC && (*in)[run] != ENQ)
			run++;
		*out = *in;
		*out_length = run;
		if (run < most && (*in)[run] == ESC)
			replay->held[replay->held_length++] = ESC;
		size_t used = run < most ? run + 1 : run;
		*in += used;
		*length -= used;
		replay->left -= used;
		if (run > 0)
			return true;
	}
	if (*length == 0)
		return false;
	if (replay->held_length > 0)
		return give(replay, replay->held_length, out, out_length);
	*out = *in;
	*out_length = *length;
	*in += *length;
	*length = 0;
	return true;
}

void replay_drop(struct replay *replay, uint64_t bytes)
{
	replay->left -= bytes < replay->left ? bytes : replay->left;
	replay->held_length = replay->given = 0;
}
