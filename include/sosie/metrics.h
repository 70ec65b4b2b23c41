/* SPDX-License-Identifier: MIT */
/* The text format of Prometheus (its documentation, "Exposition formats"), and a file of it that is replaced
 * whole, for the node exporter's textfile collector. Any thread. */
#ifndef SOSIE_METRICS_H
#define SOSIE_METRICS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SOSIE_METRICS_EVERY_MS 15000

/* The lines before the samples of a metric; type: "gauge" or "counter". help needs no escape. */
void sosie_metrics_family(FILE *out, const char *name, const char *type, const char *help);
/* One sample; pairs of label and text end with SOSIE_METRICS_END. Texts are escaped. */
#define SOSIE_METRICS_END ((const char *)NULL)
void sosie_metrics_sample(FILE *out, const char *name, double value, ...) __attribute__((sentinel));
/* A gauge without labels: "When this file was written", so that a program that has ended is told from one
 * that is fine. */
void sosie_metrics_time(FILE *out, const char *name, int64_t wall_ms);
/*
 * The file at path becomes text: a reader never sees half of it. Written beside it first, under a name that
 * nobody can foresee, so that what others may have laid there (a link, a pipe, a file of theirs) is never
 * opened. 0 or an errno.
 */
int sosie_metrics_replace(const char *path, const char *text, size_t len);

#endif
