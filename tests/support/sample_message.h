/* SPDX-License-Identifier: MIT */
/* One message of each type with every field set: what tests send and the seed corpora begin with. */
#ifndef SAMPLE_MESSAGE_H
#define SAMPLE_MESSAGE_H

#include "sosie/message.h"

/* Blobs and parts in it are static: nothing to free. Request 7. */
void sample_message(enum sosie_message_type type, struct sosie_message *m);

#endif
