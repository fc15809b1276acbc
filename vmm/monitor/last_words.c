/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/last_words.h"

#include <string.h>

void last_words_init(struct last_words *w)
{
	pthread_mutex_init(&w->lock, NULL);
	w->text[0] = '\0';
}

void last_words_keep(struct last_words *w, const char *data, size_t len)
{
	size_t room = sizeof(w->text) - 1;
	if (len > room) {
		data += len - room;
		len = room;
	}
	pthread_mutex_lock(&w->lock);
	size_t used = strlen(w->text), keep = used + len > room ? room - len : used;
	memmove(w->text, w->text + used - keep, keep);
	for (size_t i = 0; i < len; i++)
		w->text[keep + i] = data[i] ? data[i] : '?';
	w->text[keep + len] = '\0';
	pthread_mutex_unlock(&w->lock);
}

const char *last_words_line(struct last_words *w)
{
	char *text = w->text;
	size_t length = strlen(text);
	while (length > 0 && strchr("\r\n ", text[length - 1]))
		text[--length] = '\0';
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\r')
			text[i] = '\n';
	}
	const char *newline = strrchr(text, '\n'), *line = newline ? newline + 1 : text;
	const char *stamp = *line == '[' ? strstr(line, "] ") : NULL; /* the kernel's time */
	return stamp ? stamp + 2 : line;
}
