/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest printed last, for the message about a boot that failed. */
#ifndef WISP_MONITOR_LAST_WORDS_H
#define WISP_MONITOR_LAST_WORDS_H

#include <pthread.h>
#include <stddef.h>

struct last_words {
	pthread_mutex_t lock;
	char text[512];
};

void last_words_init(struct last_words *words);

/* Any thread. */
void last_words_keep(struct last_words *words, const char *data, size_t len);

/* The last line that is not empty, without the kernel's time stamp. Changes the text; nothing is kept at the same time.
 */
const char *last_words_line(struct last_words *words);

#endif
