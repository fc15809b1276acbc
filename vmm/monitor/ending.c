/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/ending.h"

#include <stdio.h>

void ending_init(struct ending *ending)
{
	pthread_mutex_init(&ending->lock, NULL);
}

bool ending_set(struct ending *ending, enum wisp_end end, const char *text)
{
	pthread_mutex_lock(&ending->lock);
	bool first = !ending->ended;
	if (first) {
		bool had_to = end == WISP_END_POWEROFF && ending->limit != WISP_END_UNKNOWN;
		ending->ended = true;
		ending->end = had_to ? ending->limit : end;
		snprintf(ending->text, sizeof(ending->text), "%s", had_to ? ending->limit_text : text);
	}
	pthread_mutex_unlock(&ending->lock);
	return first;
}

void ending_expect(struct ending *ending, enum wisp_end limit, const char *text)
{
	pthread_mutex_lock(&ending->lock);
	ending->limit = limit;
	snprintf(ending->limit_text, sizeof(ending->limit_text), "%s", text);
	pthread_mutex_unlock(&ending->lock);
}
