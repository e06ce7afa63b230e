"""The Django example under ASGI."""

import django_app
from django.core.asgi import get_asgi_application

urlpatterns = django_app.urlpatterns
application = get_asgi_application()
