// A real source file for the compiler: two libraries of Debian's libstb-dev, about 1300 lines.
#define STB_RECT_PACK_IMPLEMENTATION
#include <stb/stb_rect_pack.h>
#define STB_DXT_IMPLEMENTATION
#include <stb/stb_dxt.h>
