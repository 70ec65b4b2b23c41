/* SPDX-License-Identifier: MIT */
/* The release, as --version and the manifest's "software" show it. */
#ifndef TOOLS_VERSION_H
#define TOOLS_VERSION_H

#define SOSIE_VERSION "0.1.0"
#define SOSIE_SOFTWARE "sosie " SOSIE_VERSION

#endif
