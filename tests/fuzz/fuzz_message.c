/* SPDX-License-Identifier: MIT */
/* One payload: the first byte is the type, the rest is parsed. What parses must encode, and that must parse
 * to the same bytes again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t one[SOSIE_FRAME_MAX], two[SOSIE_FRAME_MAX];
	struct sosie_message m = {0}, again = {0};
	struct sosie_err err;
	size_t len, len_again;
	if (!size || sosie_message_parse((enum sosie_message_type)data[0], data + 1, size - 1, &m, &err))
		return 0;
	int rc = sosie_message_encode(&m, one, sizeof one, &len, &err);
	assert(!rc);
	rc = sosie_message_parse(m.type, one, len, &again, &err);
	assert(!rc);
	rc = sosie_message_encode(&again, two, sizeof two, &len_again, &err);
	/* The texts of an error grow when escaped and may be cut at the second time. */
	assert(!rc && (m.type == SOSIE_MSG_ERROR || m.type == SOSIE_MSG_HELLO ||
	               m.type == SOSIE_MSG_WELCOME || (len == len_again && !memcmp(one, two, len))));
	(void)rc;
	sosie_message_fini(&m);
	sosie_message_fini(&again);
	return 0;
}
