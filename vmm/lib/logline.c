/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/lib/logline.h"

struct reader {
	const char *at, *end;
};

static bool take(struct reader *in, char c)
{
	while (in->at < in->end && (*in->at == ' ' || *in->at == '\t'))
		in->at++;
	if (in->at == in->end || *in->at != c)
		return false;
	in->at++;
	return true;
}

static int hex4(struct reader *in)
{
	int value = 0;
	if (in->end - in->at < 4)
		return -1;
	for (int i = 0; i < 4; i++, in->at++) {
		char c = *in->at;
		if (!isxdigit((unsigned char)c))
			return -1;
		value = value * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
	}
	return value;
}

static void put_utf8(struct lib_string *out, unsigned c)
{
	char bytes[4];
	size_t n = 0;
	if (c < 0x80) {
		bytes[n++] = (char)c;
	} else if (c < 0x800) {
		bytes[n++] = (char)(0xc0 | c >> 6);
		bytes[n++] = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		bytes[n++] = (char)(0xe0 | c >> 12);
		bytes[n++] = (char)(0x80 | (c >> 6 & 63));
		bytes[n++] = (char)(0x80 | (c & 63));
	} else {
		bytes[n++] = (char)(0xf0 | c >> 18);
		bytes[n++] = (char)(0x80 | (c >> 12 & 63));
		bytes[n++] = (char)(0x80 | (c >> 6 & 63));
		bytes[n++] = (char)(0x80 | (c & 63));
	}
	lib_string_add(out, bytes, n);
}

static bool take_escape(struct reader *in, struct lib_string *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	if (in->at == in->end)
		return false;
	char c = *in->at++;
	if (c != 'u') {
		const char *found = strchr(from, c);
		if (!found || !c)
			return false;
		lib_string_add(out, &to[found - from], 1);
		return true;
	}
	int code = hex4(in);
	if (code < 0)
		return false;
	if (code >= 0xd800 && code < 0xdc00) {
		if (in->end - in->at < 6 || in->at[0] != '\\' || in->at[1] != 'u')
			return false;
		in->at += 2;
		int low = hex4(in);
		if (low < 0xdc00 || low > 0xdfff)
			return false;
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	}
	put_utf8(out, (unsigned)code);
	return true;
}

static bool take_string(struct reader *in, struct lib_string *out)
{
	if (!take(in, '"'))
		return false;
	while (in->at < in->end) {
		const char *run = in->at;
		while (in->at < in->end && *in->at != '"' && *in->at != '\\')
			in->at++;
		lib_string_add(out, run, (size_t)(in->at - run));
		if (in->at == in->end)
			return false;
		if (*in->at++ == '"')
			return true;
		if (!take_escape(in, out))
			return false;
	}
	return false;
}

static bool decode_base64(const struct lib_string *text, struct lib_string *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = 0;
	int count = 0;
	for (size_t i = 0; i < text->length && text->text[i] != '='; i++) {
		const char *digit = strchr(digits, text->text[i]);
		if (!digit || !*digit)
			return false;
		bits = bits << 6 | (uint32_t)(digit - digits);
		if (++count % 4 != 1) {
			char byte = (char)(bits >> (6 - 2 * ((count - 1) % 4)) & 0xff);
			lib_string_add(out, &byte, 1);
		}
	}
	return true;
}

static bool parse_time(const char *text, int64_t *ns)
{
	struct tm tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!rest)
		return false;
	int64_t fraction = 0, unit = NS_PER_S / 10;
	if (*rest == '.') {
		for (rest++; isdigit((unsigned char)*rest); rest++, unit /= 10)
			fraction += (*rest - '0') * unit;
	}
	/* The time is the guest's: one that no int64_t holds is as far away as one can be. */
	int64_t seconds = timegm(&tm);
	if (__builtin_mul_overflow(seconds, NS_PER_S, ns) || __builtin_add_overflow(*ns, fraction, ns))
		*ns = seconds < 0 ? INT64_MIN : INT64_MAX;
	return strcmp(rest, "Z") == 0;
}

/* A number or a word, unchanged. */
static bool take_bare(struct reader *in, struct lib_string *out)
{
	const char *run = in->at;
	while (in->at < in->end && (isalnum((unsigned char)*in->at) || strchr("+-.", *in->at)))
		in->at++;
	lib_string_add(out, run, (size_t)(in->at - run));
	return in->at > run;
}

static bool store(struct logline *record, const char *key, const struct lib_string *value)
{
	if (strcmp(key, "time") == 0)
		return parse_time(value->text, &record->time_ns);
	if (strcmp(key, "session") == 0) {
		record->session = strtoull(value->text, NULL, 10);
		return true;
	}
	if (strcmp(key, "stream") == 0) {
		snprintf(record->stream, sizeof(record->stream), "%s", value->text);
		return true;
	}
	if (strncmp(key, "data", 4) == 0 && record->data.length > 0)
		lib_string_add(&record->data, ": ", 2);
	if (strcmp(key, "data") == 0) {
		lib_string_add(&record->data, value->text, value->length);
		return true;
	}
	if (strcmp(key, "data_b64") == 0)
		return decode_base64(value, &record->data);
	lib_string_format(&record->data, "%s%s=%s", record->data.length ? " " : "", key, value->text);
	return true;
}

bool logline_parse(const char *line, size_t length, struct logline *record)
{
	struct reader in = {line, line + length};
	struct lib_string key = {0}, value = {0};
	record->time_ns = 0;
	record->session = 0;
	record->stream[0] = '\0';
	record->data.length = 0;
	lib_string_add(&record->data, "", 0);
	bool ok = take(&in, '{');
	while (ok) {
		key.length = value.length = 0;
		lib_string_add(&value, "", 0);
		ok = take_string(&in, &key) && take(&in, ':');
		if (ok && in.at < in.end && *in.at == '"')
			ok = take_string(&in, &value);
		else if (ok)
			ok = take_bare(&in, &value);
		ok = ok && !key.failed && !value.failed && store(record, key.text, &value);
		if (ok && !take(&in, ','))
			break;
	}
	ok = ok && take(&in, '}') && in.at == in.end && record->stream[0] && !record->data.failed;
	free(key.text);
	free(value.text);
	return ok;
}
